"""What NVRTC makes of the kernels for three architectures: registers, what does not fit into them, instructions.

It needs no GPU, but cuda.core (pip install 'cuda-core[cu13]', which brings NVRTC); to count, NVIDIA's nvdisasm too.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fullbatch.steps.cuda import coded, onepass, segments, updates

USUAL = onepass.Variant("float32", "tanh", "sigmoid", 1, 8)  # 28-64-1
GATHERING = f"#define T float\n{updates.CHOSEN}{updates.GATHER}"
UPDATE = f"#define T float\n#define KIND 3\n{updates.CHOSEN}{segments.SUMS}{updates.UPDATE}"
TREE = f"#define T float\n{segments.SUMS}{segments.TREE}"


def compiled(source, architecture):
    """The machine code, and what ptxas says of it."""
    if importlib.util.find_spec("cuda") is None:
        pytest.skip("cuda.core is not installed")
    core = pytest.importorskip("cuda.core", reason="cuda.core is not installed", exc_type=ImportError)
    said = io.StringIO()
    try:
        options = core.ProgramOptions(arch=architecture, std="c++17", ftz=True, ptxas_options="-v")
        code = core.Program(source, "c++", options).compile("cubin", logs=said).code
    except Exception as error:
        if "nvrtc" in str(error).lower():
            pytest.skip(f"NVRTC is missing: {error}")
        raise
    return bytes(code), said.getvalue()


@pytest.mark.parametrize("architecture", ["sm_80", "sm_90", "sm_100"])
def test_what_is_held_in_registers_and_what_is_put_aside(architecture):
    """Thread blocks of one pass are to be so many on a multiprocessor as RESIDENT says."""
    newest = architecture == "sm_100"
    limits = {  # registers, bytes stored beside them
        USUAL.source: (168, 64 if newest else 0),
        USUAL.gathering(True): (255, 0),
        UPDATE: (64, 0),
        GATHERING: (64, 0),
        TREE: (64, 0),
        **{coded.source(name, "float32", "uint16"): (80, 0) for name in coded.KERNELS},  # three thread blocks at once
    }
    for source, (most, aside) in limits.items():
        _, said = compiled(source, architecture)
        registers = int(re.search(r"Used (\d+) registers", said)[1])
        stored = int(re.search(r"(\d+) bytes spill stores", said)[1])
        assert registers <= most, said
        assert stored <= aside, said


def disassembler():
    """NVIDIA's nvdisasm, of the toolkit or as triton brings it; None without one."""
    found, triton = shutil.which("nvdisasm"), importlib.util.find_spec("triton")
    beside = None if triton is None else Path(triton.origin).parent / "backends/nvidia/bin/nvdisasm"
    return found or (str(beside) if beside is not None and beside.exists() else None)


@pytest.mark.skipif(disassembler() is None, reason="there is no nvdisasm")
def test_the_instructions_of_one_pass_are_as_many_as_the_page_on_gpus_says(tmp_path):
    """Of a tile of 16 examples: its loop, with the loops over 29 rows of W1 and over 16 examples in it."""
    (tmp_path / "code").write_bytes(compiled(USUAL.source, "sm_90")[0])
    text = subprocess.run(
        [disassembler(), "-c", tmp_path / "code"], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    labels, program = {}, []
    for line in text.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(program)
        elif found := re.search(r"/\*[0-9a-f]{4,5}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)(.*)", line):
            program.append(found.groups())
    back = {
        (labels[target[0]], i)
        for i, (name, rest) in enumerate(program)
        if name.startswith("BRA") and (target := re.findall(r"\.L_x_\d+", rest)) and labels[target[0]] <= i
    }
    multiplying = sorted(
        (stop - start, start, stop)
        for start, stop in back
        if sum(name.startswith("FFMA") for name, _ in program[start : stop + 1]) >= 128
    )
    first, second, tile = (size + 1 for size, _, _ in multiplying[:3])
    starts = [start for _, start, _ in multiplying[:3]]
    assert all(starts[2] < start for start in starts[:2]), "the loop over a tile holds the two others"
    total = tile - first - second + 7 * first + 7 * second  # four rows or two examples at a time, and the rest before
    assert (16 * 64 * 29 + 16 * 64 * 29) / 32 <= total <= 3600, "the least are the multiply-adds of both products"
    milliseconds = 1000 * total * 11_010_048 / 16 / (132 * 4 * 1.98e9)
    assert milliseconds == pytest.approx(2.2, abs=0.15)
