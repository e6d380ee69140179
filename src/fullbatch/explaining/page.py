"""An explanation as one page that holds its plots, and asks no network for anything."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING

from fullbatch.version import __version__

if TYPE_CHECKING:
    from fullbatch.explaining.explanation import Explanation
    from fullbatch.explaining.figures import Figures

TEMPLATE = Path(__file__).with_name("page.html")
TITLES = {
    "importance": "Importance of the columns", "dependence": "Dependence on the leading columns",
    "scores": "Scores", "calibration": "Calibration", "confusion": "Confusion matrix", "errors": "Errors",
}  # fmt: skip


def page(found: Explanation, drawn: Figures) -> bytes:
    """The page, HTML in UTF-8. Whatever is in the data is escaped."""
    from jinja2 import Environment, StrictUndefined

    plots = {name: (TITLES[name], text, b64encode(image).decode()) for name, (text, image) in drawn.items()}
    scores = {name: format(value, ",.5g") for name, value in found.scores.items() if isinstance(value, (int, float))}
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = template.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        found=found, plots=plots, scores=scores, version=__version__
    )
    return text.encode()
