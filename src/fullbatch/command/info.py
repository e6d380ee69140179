"""``fullbatch info``: what this machine has for a training."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from fullbatch.command import options
from fullbatch.command.clicking import Command, argument, file_path
from fullbatch.command.columns import rows_line
from fullbatch.command.printing import console, plural, print_json
from fullbatch.version import __version__

PACKAGES = (
    "numpy", "scipy", "scikit-learn", "pyarrow", "array-api-compat", "safetensors", "threadpoolctl", "click",
    "rich", "matplotlib",
)  # fmt: skip
CUPY_PACKAGES = ("cupy-cuda13x", "cupy-cuda12x", "cupy")  # CuPy has one of these names, by the CUDA that it is for.


@click.command(cls=Command, epilog="Example: fullbatch info late.fullbatch")
@argument(
    "model", metavar="[MODEL]", type=file_path, required=False, help="A model file, or a store: show how it was made."
)
@options.as_json
def info(model: Path | None, as_json: bool) -> None:
    """What this machine has: versions, devices, steps. With MODEL: its columns, settings and scores."""
    if model is not None:
        from fullbatch.sources.store_file import is_store

        (_store_info if is_store(model) else _model_info)(model, as_json)
        return
    found = _environment()
    if as_json:
        print_json(found)
        return
    from fullbatch.command.report import facts

    devices = [
        (device["name"], device["detail"] if device["usable"] else f"not usable: {device['detail']}")
        for device in found["devices"]
    ]
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items() if version)
    absent = ", ".join(name for name, version in found["versions"].items() if not version)
    blas = "; ".join(map(_blas_text, found["blas"]))
    pairs = [
        ("fullbatch", f"{found['fullbatch']} on Python {found['python']}, {found['system']}"),
        *devices,
        ("auto", f"takes {found['auto']}"),
        ("threads", f"{found['threads']} (of the fold; BLAS is held to one in each)"),
        ("BLAS", blas or "not found"),
        *((f"step {name}", text) for name, text in found["steps"].items()),
        ("native code", _native_text(**found["native"])),
        ("with", versions),
    ]
    if absent:
        pairs.append(("without", f"{absent} (not installed)"))
    console(sys.stdout).print(facts(pairs))


def _store_info(path: Path, as_json: bool) -> None:
    """Show what a store says of itself."""
    from fullbatch.command.columns import print_columns
    from fullbatch.command.convert import facts_of, summary
    from fullbatch.command.report import facts
    from fullbatch.sources.stored import open_store
    from fullbatch.tables.from_store import report_of

    with open_store(path) as store:
        why_not = store.why_not_in_place()
        if as_json:
            print_json({**summary(store.content), "in_place": {"used": not why_not, "why_not": why_not}})
            return
        out = console(sys.stdout)
        print_columns(out, report_of(store), f"{path}, of those to learn from")
        made_by = ("made by", f"fullbatch {store.content['fullbatch']}")
        out.print(facts([*facts_of(store.content), made_by, ("full batches", _in_place_text(why_not))]))


def _in_place_text(why_not: str) -> str:
    if why_not:
        return f"copy its numbers: {why_not}"
    return "look at its numbers where they lie (FULLBATCH_MAP can be off)"


def _model_info(path: Path, as_json: bool) -> None:
    """Show what a model file keeps of the model's making."""
    from fullbatch.command.columns import print_columns
    from fullbatch.command.report import facts, print_scores, scores_title
    from fullbatch.command.use import load_table_model

    model = load_table_model(path)
    record = model.record
    if as_json:
        print_json(record)
        return
    out = console(sys.stdout)
    if not record:
        out.print(f"{path} keeps no record of its making; an earlier fullbatch wrote it.", markup=False)
        return
    print_columns(out, record["report"], f"the table that {path} learned from")
    if record["held_out"]:
        chose = record.get("held_out_chose", ["epoch"])
        title = scores_title(str(model.encoding.target), record["held_out"]["m"], chose)
        columns = {"model": record["held_out"], "guess": record["guess"]}
        print_scores(out, title, columns, model.classes, record.get("weight"))
    out.print(facts([*_making(record), *((name, _text(value)) for name, value in _settings(record).items())]))


def _making(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What made the model, and of what."""
    from fullbatch.command.report import held_out_text

    m = record.get("held_out_rows", 0)
    data, versions = record["data"], record["versions"]
    files = "".join(f"{file['name']} ({file['bytes']:,} bytes), " for file in data["files"])
    left_out = rows_line(record["left_out"], data["rows"])
    return [
        ("made by", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("data", f"{files}{plural(data['rows'], 'row')}, checksum {data['crc32']}"),
        ("learned from", plural(record["rows"], "row") + (f"; {left_out}" if left_out else "")),
        *([("weighed by", record["weight"])] if record.get("weight") else []),
        *([("held out", held_out_text(m, record["rows"], record["held_out_by"]))] if m else []),
    ]


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the training, and what was chosen where they left it open."""
    values = {**record["parameters"], **record["chosen"]}
    return {name: value for name, value in values.items() if value not in (None, [], {})}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {one}" for name, one in value.items())
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


def _environment() -> dict[str, Any]:
    """All that ``info`` shows, as its JSON has it."""
    import platform

    from fullbatch import steps
    from fullbatch.machine import native_library, places
    from fullbatch.machine.threads import thread_count

    installed = _installed()
    auto = places.place("auto")
    native = native_library.isa()
    return {
        "fullbatch": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": [vars(device) for device in places.devices()],
        "auto": auto.name,
        "threads": thread_count(None),
        "blas": _blas(),
        "steps": {name: _first_line(sys.modules[step.__module__].__doc__) for name, step in steps.STEPS.items()},
        "native": {
            "isa": native and native[1],
            "usable": [name for _, name in native_library.isas()],
            "why_not": native_library.why_not(),
        },
        "versions": {package: installed.get(package) for package in PACKAGES}
        | {"cupy": next(filter(None, map(installed.get, CUPY_PACKAGES)), None)},
    }


def _installed() -> dict[str, str]:
    """The version of each package that is installed, by its name.

    The names of the folders have both; ``importlib.metadata``, which brings the parser of mails, reads them too.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:  # A zip file, or nothing.
            continue
        for name in names:
            package, _, version = name.removesuffix(".dist-info").removesuffix(".egg-info").partition("-")
            if name.endswith((".dist-info", ".egg-info")) and version:
                found.setdefault(package.lower().replace("_", "-"), version.partition("-py")[0])
    return found


def _blas() -> list[dict[str, Any]]:
    """What is loaded; and SciPy's, by its own words: to load it would take half of the time of ``info``."""
    import scipy
    from threadpoolctl import threadpool_info

    found = [
        {"name": one["internal_api"], "version": one.get("version"), "threads": one["num_threads"]}
        for one in threadpool_info()
        if one["user_api"] == "blas"
    ]
    built = scipy.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    if built.get("name") and "scipy.linalg" not in sys.modules:
        found.append({"name": built["name"], "version": built.get("version"), "threads": None})
    return found


def _blas_text(one: dict[str, Any]) -> str:
    threads = "SciPy's" if one["threads"] is None else plural(one["threads"], "thread")
    return f"{one['name']} {one['version']}, {threads}"


def _native_text(isa: str | None, usable: Sequence[str], why_not: str) -> str:
    if isa is None:
        return f"none: {why_not}"
    others = ", ".join(name for name in usable if name != isa)
    return isa + (f" (FULLBATCH_NATIVE can be {others} or off)" if others else " (FULLBATCH_NATIVE can be off)")


def _first_line(text: str | None) -> str:
    return (text or "").partition("\n")[0].rstrip(".")
