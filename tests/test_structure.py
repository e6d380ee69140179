"""What import-linter does not say of the house: who names a library, what is imported late, how long functions are."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import fullbatch

HOUSE = Path(fullbatch.__file__).parent
ARRAY_LIBRARIES = {"numpy", "cupy", "scipy", "array_api_compat", "torch", "jax"}
# The pass and what is made of it alone: the array API and nothing else.
OF_THE_PASS = ("core", "training", "functions", "fold", "errors", "version")
# What is there after ``import fullbatch``: an import of one of these at the top of a file would make it slow.
LIGHT = ("", "core", "machine", "sources", "steps", "fold", "training", "functions", "docstrings", "errors", "version")
SLOW = {"scipy", "sklearn", "joblib", "threadpoolctl", "cupy", "pyarrow"}
MOST_LINES = 50  # of a function, docstring not counted
LONG_SIGNATURES = ("command.train.train", "command.convert.convert")  # functions whose signature is not counted


@cache
def files():
    """Every file of the package as (room.module, its syntax tree); a room's ``__init__`` is the room itself."""
    found = []
    for path in sorted(HOUSE.rglob("*.py")):
        parts = path.relative_to(HOUSE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        found.append((name, ast.parse(path.read_text(encoding="utf-8"))))
    return found


def inside(name, rooms):
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def imported(tree):
    """The modules that a file imports, anywhere in it, for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def libraries(tree):
    """The first names of what a file, or a part of it, imports."""
    return {module.split(".")[0] for module in imported(tree)}


def test_the_pass_names_no_array_library():
    """SciPy's L-BFGS works on the host; the native batches, and a GPU's, are twins that stand beside the loop."""
    host = {
        "training.optimizers": {"scipy"}, "training.native_batches": {"numpy"}, "training.card_batches": {"numpy"},
    }  # fmt: skip
    named = {
        name: found - host.get(name, set())
        for name, tree in files()
        if inside(name, OF_THE_PASS) and (found := libraries(tree) & ARRAY_LIBRARIES)
    }
    assert {name: found for name, found in named.items() if found} == {}


def test_cupy_and_the_compatibility_layer_are_named_by_the_machine_and_the_steps_alone():
    named = {name: libraries(tree) & ARRAY_LIBRARIES for name, tree in files()}
    assert [name for name, found in named.items() if found & {"torch", "jax"}] == []
    outside = {name: found & {"cupy", "array_api_compat"} for name, found in named.items()}
    assert [n for n, found in outside.items() if found and not inside(n, ("machine", "steps"))] == []


def test_what_is_slow_to_import_is_imported_where_it_is_used():
    for name, tree in files():
        if name in LIGHT or inside(name, LIGHT[1:]):
            top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            assert not {library for node in top for library in libraries(node)} & SLOW, name


def test_a_room_s_init_hands_names_on_and_defines_nothing_heavy():
    for path in HOUSE.glob("*/__init__.py"):
        if path.parent.name == "steps":
            continue  # its registry of steps is what the room is about
        kinds = {type(node) for node in ast.parse(path.read_text(encoding="utf-8")).body}
        assert kinds <= {ast.Expr, ast.Import, ast.ImportFrom, ast.Assign}, path


def test_functions_stay_short():
    """The signatures of ``fullbatch train`` and ``convert`` are their options; they do not count."""
    long = []
    for name, tree in files():
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                text = first.end_lineno - first.lineno + 1 if is_text else 0
                start = first.lineno if f"{name}.{node.name}" in LONG_SIGNATURES else node.lineno
                lines = node.end_lineno - start + 1 - text
                if lines > MOST_LINES:
                    long.append(f"{name}.{node.name}: {lines} lines")
    assert long == []


def test_nobody_pickles():
    """Loading a model runs no code. The messages of a cluster, which Dask pickles in any case, are no files."""
    pickling = [name for name, tree in files() if libraries(tree) & {"pickle", "dill", "cloudpickle"}]
    assert pickling == ["machine.packing"]


def test_a_room_whose_tests_share_a_conftest_is_a_package():
    """Elsewhere ``from conftest import`` finds whichever of the two was loaded first, so only a whole run fails."""
    tests = Path(__file__).parent
    shared = sorted(path.parent for path in tests.glob("*/**/conftest.py"))
    assert shared
    assert [room.name for room in shared if not (room / "__init__.py").exists()] == []
