"""What every CUDA kernel takes of registers, and what does not fit into them, for three architectures.

    python tests/steps/registers.py [FOLDER OF THE LIST]

compiles what has changed since the list, .ci/registers.txt, was written, and writes it anew. It needs no GPU, but
cuda.core (pip install 'cuda-core[cu13]', which brings NVRTC), and for all kernels some minutes: so it is run by hand
where a kernel changes. test_machine_code.py holds the list to the kernels' text, which costs nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fullbatch.core.network import Network
from fullbatch.steps.cuda import coded, kernels, onepass, segments, tensor, tiles, twopass, updates

ARCHITECTURES = "sm_80", "sm_90", "sm_100"
LIST = Path(__file__).parents[2] / ".ci" / "registers.txt"
HEAD = "Registers of a thread, bytes stored and loaded beside them: sm_80, sm_90, sm_100 (tests/steps/registers.py)"
DTYPES = "float32", "float64"


class Used(NamedTuple):
    """By one architecture's code: registers of a thread, bytes stored and loaded because they did not suffice."""

    registers: int
    stored: int
    loaded: int


def sources() -> Iterator[tuple[str, str]]:
    """Name and text of every kernel, for narrow and wide networks, and for the activation that needs most."""
    yield from _of_a_layer()
    yield from _of_one_pass()
    yield from _of_two_passes()
    for dtype in DTYPES:
        number = f"#define T {kernels.TYPES[dtype]}\n"
        yield f"tree {dtype}", number + segments.SUMS + segments.TREE
        yield f"gather {dtype}", number + updates.CHOSEN + updates.GATHER
        for i, kind in enumerate(updates.KINDS):
            defined = f"{number}#define KIND {i}\n"
            yield f"update {kind} {dtype}", defined + updates.CHOSEN + segments.SUMS + updates.UPDATE
        for name in coded.KERNELS:
            for codes in coded.CODES if name != "turn" else ("uint8",):
                for gathers in (False, True) if name != "turn" else (False,):
                    yield f"{name} {codes} {dtype}{' gathering' * gathers}", coded.source(name, dtype, codes, gathers)


def _of_a_layer() -> Iterator[tuple[str, str]]:
    for dtype in DTYPES:
        for hidden in ("tanh", "gelu"):
            variant = kernels.Variant(dtype, hidden)
            for name in ("activate", "descend"):
                yield f"{name} {hidden} {dtype}", variant.source(name)
            for per_lane in (1, 2, 4, 8, kernels.WIDEST_TAIL[dtype] // 32):
                widest = kernels.Variant(dtype, hidden, "sigmoid", per_lane)
                yield f"tail {32 * per_lane} {hidden} {dtype}", widest.source("tail")
        yield f"tail linear {dtype}", kernels.Variant(dtype, output="sigmoid", linear=True).source("tail")
        for output in ("softmax", "sigmoid"):
            yield f"output {output} {dtype}", kernels.Variant(dtype, output=output).source("output")


def _of_one_pass() -> Iterator[tuple[str, str]]:
    shapes = {
        "float32": ((28, 64), (12, 64), (63, 64), (28, 384), (63, 256)),
        "float64": ((28, 32), (12, 32), (31, 128)),
    }
    for dtype, some in shapes.items():
        for inputs, hidden in some:
            for name in ("tanh", "gelu"):
                if name == "gelu" and hidden > 256:
                    continue
                variant = onepass.Variant.of(Network([inputs, hidden, 1], hidden=name), dtype)
                for gathers in (False, True):
                    what = f"{inputs}-{hidden}-1 {name} {dtype}{' gathering' * gathers}"
                    yield f"onepass {what}", variant.gathering(gathers)
    for inputs, hidden in ((28, 64), (7, 64), (31, 256)):
        for name in ("tanh", "gelu"):
            for products, word in ((tiles.SPLIT, "float32"), (tiles.TF32, "tf32")):
                variant_3 = tensor.Variant.of(Network([inputs, hidden, 1], hidden=name), products)
                for gathers in (False, True):
                    what = f"{inputs}-{hidden}-1 {name} {word}{' gathering' * gathers}"
                    yield f"tensor {what}", variant_3.source(gathers)


def _of_two_passes() -> Iterator[tuple[str, str]]:
    kinds = (("float32", tiles.SPLIT, "float32"), ("float32", tiles.TF32, "tf32"), ("float64", tiles.PLAIN, "float64"))
    for sizes in ([784, 128, 1], [100, 1000, 1], [100, 1000, 32], [784, 100, 10]):
        for dtype, products, word in kinds:
            output = "softmax" if sizes[-1] > 1 else "sigmoid"
            variant = twopass.Variant.of(Network(sizes, hidden="tanh", output=output), dtype, products)
            if variant.lane_sums > twopass.MOST_SUMS[dtype]:
                continue
            for name in twopass.KERNELS:
                yield f"twopass {name} {'-'.join(map(str, sizes))} {word}", variant.source(name)


def compiled(source: str, architecture: str) -> tuple[bytes, str]:
    """The machine code, and what ptxas says of it. ImportError without cuda.core or NVRTC."""
    if importlib.util.find_spec("cuda") is None:
        raise ImportError("cuda.core is not installed")
    from cuda import core

    said = io.StringIO()
    try:
        options = core.ProgramOptions(arch=architecture, std="c++17", ftz=True, ptxas_options="-v")
        code = core.Program(source, "c++", options).compile("cubin", logs=said).code
    except Exception as error:
        if "nvrtc" in str(error).lower():
            raise ImportError(f"NVRTC is missing: {error}") from error
        raise
    return bytes(code), said.getvalue()


def used(source: str, architecture: str) -> Used:
    _, said = compiled(source, architecture)
    stored, loaded = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", said).groups()
    return Used(int(re.search(r"Used (\d+) registers", said)[1]), int(stored), int(loaded))


def digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()[:12]


def listed(path: Path = LIST) -> dict[str, tuple[str, list[Used]]]:
    """Of each kernel the digest of its text and what it uses, as the list has it."""
    found = {}
    for line in path.read_text().splitlines()[1:] if path.exists() else ():
        name, text, *each = line.split("\t")
        found[name] = text, [Used(*map(int, one.split())) for one in each]
    return found


def main(path: Path) -> None:
    before, lines = listed(path), [HEAD]
    for name, source in sources():
        text, each = before.get(name, ("", []))
        if text != digest(source):
            each = [used(source, architecture) for architecture in ARCHITECTURES]
            print(name, *each, flush=True)
        lines.append("\t".join([name, digest(source), *(" ".join(map(str, one)) for one in each)]))
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) / LIST.name if len(sys.argv) > 1 else LIST)
