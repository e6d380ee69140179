"""What NVRTC makes of the kernels for three architectures: registers, what does not fit into them, instructions.

It needs no GPU, but cuda.core (pip install 'cuda-core[cu13]', which brings NVRTC); to count, NVIDIA's nvdisasm too.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import registers

from fullbatch.steps.cuda import coded, onepass, segments, updates

USUAL = onepass.Variant("float32", "tanh", "sigmoid", 1, 8)  # 28-64-1
GATHERING = f"#define T float\n{updates.CHOSEN}{updates.GATHER}"
UPDATE = f"#define T float\n#define KIND 3\n{updates.CHOSEN}{segments.SUMS}{updates.UPDATE}"
TREE = f"#define T float\n{segments.SUMS}{segments.TREE}"

# Bytes that a thread stores because registers do not suffice, at most: of all other kernels none.
ASIDE = {
    "tail 128 tanh float32": 16, "tail 1024 tanh float32": 212, "tail 1024 gelu float32": 272,
    "tail 128 tanh float64": 32, "tail 128 gelu float64": 32, "tail linear float64": 16,
    "onepass 28-64-1 gelu float32": 12, "onepass 63-256-1 gelu float32 gathering": 16,
    "twopass outward 100-1000-1 float64": 44, "twopass head 100-1000-1 float64": 8,
    "twopass outward 100-1000-32 float64": 136, "twopass head 100-1000-32 float64": 8,
    "twopass outward 784-100-10 float32": 4,
}  # fmt: skip


def compiled(source, architecture):
    try:
        return registers.compiled(source, architecture)
    except ImportError as error:
        pytest.skip(str(error))


@pytest.mark.skipif(not registers.LIST.parent.is_dir(), reason="the list is not in the sdist")
def test_the_list_is_of_these_kernels_and_what_they_put_aside_is_known():
    """For three architectures; a kernel whose text changed is to be compiled anew: registers.py says how."""
    listed = registers.listed()
    digests = {name: registers.digest(source) for name, source in registers.sources()}
    assert {name: text for name, (text, _) in listed.items()} == digests
    stored = {name: max(one.stored for one in each) for name, (_, each) in listed.items()}
    assert {name: most for name, most in stored.items() if most} == ASIDE
    assert all(len(each) == len(registers.ARCHITECTURES) for _, each in listed.values())
    # So many that as many thread blocks share a multiprocessor, with 65,536 registers, as the kernels say.
    for name, (_, each) in listed.items():
        threads = {"onepass 28-64-1 tanh float32": 12 * 32, "scatter uint16 float32": 3 * 256}.get(name, 256)
        assert all(threads * one.registers <= 65_536 for one in each), name


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
