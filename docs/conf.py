"""How Sphinx builds these pages: ``make -C docs html``, without a network; a warning is an error."""

from __future__ import annotations

import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
os.environ.setdefault("PYTHONWARNINGS", "ignore")
os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "warning")  # it sets its loggers' levels when it is imported
for quiet in ("fullbatch", "httpx2", "distributed"):  # whoever sets up the root logger, examples print what they print
    logging.getLogger(quiet).setLevel(logging.WARNING)

from fullbatch.version import __version__  # noqa: E402

# Examples whose packages are not there are left out: those of the extra `docs` are all there.
NEEDS = {"plot_6": ["distributed"], "plot_7": ["ndonnx", "onnxruntime", "fastapi", "httpx2"]}
MISSING = [name for name, packages in NEEDS.items() if not all(map(find_spec, packages))]

project, author, copyright = "fullbatch", "the fullbatch authors", "the fullbatch authors"
version = release = __version__
extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
    "messages",
]
exclude_patterns = ["_build", "gallery/README.*", "**/GALLERY_HEADER.rst"]
html_theme = "furo"
html_title = f"fullbatch {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
nitpicky = False  # types in docstrings are words: "array (m, n)"
default_role = "literal"
suppress_warnings = ["config.cache"]  # the sort key of examples is a class

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say shapes, the annotations mostly Any
autodoc_default_options = {"members": True, "inherited-members": True, "member-order": "bysource"}
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "abort_on_example_error": True,
    "ignore_pattern": "|".join(["__init__", *MISSING]),
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": os.environ.get("FULLBATCH_DOCS_EXAMPLES", "1") != "0",
}


def _skip(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what scikit-learn's bases bring, and what the package calls itself."""
    found = thing.fget if isinstance(thing, property) else thing
    module = getattr(found, "__module__", None) or ""
    ours = module.startswith("fullbatch") or not callable(found)
    own_use = name.endswith("_unchecked") or name in (
        "summed_loss", "check", "note", "setup", "teardown", "on_fit_task_begin", "on_fit_task_end",
        "set_fit_request", "set_score_request", "set_partial_fit_request", "get_metadata_routing",
    )  # fmt: skip
    return True if own_use or not ours else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", _skip)
