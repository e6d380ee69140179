"""``fullbatch export``: a model as an ONNX model, which runs without fullbatch and without Python."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, file_path, option
from fullbatch.command.options import check_distinct
from fullbatch.command.printing import plural, say, status
from fullbatch.errors import InputError

if TYPE_CHECKING:
    from fullbatch.saving.onnx.running import Comparison

ENDING = ".onnx"


@click.command(cls=Command, epilog="Example: fullbatch export late.fullbatch --out late.onnx --check test.parquet")
@options.model_argument
@option("--out", metavar="FILE", type=file_path, required=True, help="Write the ONNX model to this file, .onnx.")
@option(
    "--check",
    metavar="TABLE",
    type=file_path,
    help="Ask onnxruntime and the model for the rows of a table, and print how far they differ.",
)
def export(model: Path, out: Path, check: Path | None) -> None:
    """Write a model as an ONNX graph: raw columns in, labels and probabilities or numbers out."""
    from fullbatch.machine.safe_output import check_output, replacing

    if out.suffix.lower() != ENDING:
        raise InputError(f"--out {out}: unknown ending; an ONNX model's is {ENDING}.")
    check_distinct({"MODEL": model, "--check": check}, {"--out": out})
    check_output(out, "the ONNX model")
    from fullbatch.saving.model_file import checksum_in, load
    from fullbatch.saving.onnx.export import Parts
    from fullbatch.saving.onnx.graph import packages
    from fullbatch.saving.onnx.running import compare

    packages()
    with status(f"exporting {model}"):
        parts = Parts(load(model))
        made = parts.export(checksum_in(model))
        found = None if check is None else compare(parts, made, check)
    with replacing(out, "the ONNX model") as file:
        file.write(made.SerializeToString(deterministic=True))
    if found is not None:
        print(_compared(found, str(check), classes=parts.classes is not None))
    inputs, outputs = ([one.name for one in side] for side in (made.graph.input, made.graph.output))
    say(f"the model is in {out}: {plural(len(inputs), 'input')}; {' and '.join(outputs)}.")


def _compared(found: Comparison, table: str, *, classes: bool) -> str:
    rows = f"{plural(found.rows, 'row')} of {table}"
    left = f" ({found.left_out:,} more have a boolean that is missing, which the graph cannot take)"
    end = f"{left if found.left_out else ''}."
    if not classes:
        return f"largest difference of a prediction {found.largest:.3g}, of up to {found.size:.3g}, in {rows}{end}"
    percent = 100 * found.equal / max(found.rows, 1)
    return (
        f"largest difference of a probability {found.largest:.3g}; {found.equal:,} labels are equal ({percent:.6g} %) "
        f"in {rows}{end}"
    )
