"""The house: imports run one way, few rooms name a library, and the functions of the core stay short."""

from __future__ import annotations

import ast
from pathlib import Path

import fullbatch

ROOT = Path(fullbatch.__file__).parent
# Who lives where, from the top down: a room imports only from lines below its own.
HOUSE = """
    __main__ cli model_file predictions table_model
    estimators fitting solvers validation
    report outputs plain_values tables
    training minibatches objective fold
    steps steps.onepass steps.fused steps.cuda steps.kernels steps.native_batches steps.native steps.inplace steps.array
    sources sources.streamed sources.memory sources.encoded sources.files sources.columns
    optimizers network losses activations gradient_sum parameters
    threads backend native_library errors
"""
ORDER = HOUSE.split()
CORE = {"errors", *HOUSE[HOUSE.index("training") : HOUSE.index("steps")].split()}
CORE |= {*HOUSE[HOUSE.index("optimizers") : HOUSE.index("backend")].split()}
ARRAY_LIBRARIES = {"numpy", "cupy", "scipy", "array_api_compat", "torch", "jax"}


def rooms():
    """Every file as (its name in ORDER, its syntax tree)."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imported(tree):
    """The modules that a file imports, anywhere in it, for type checking too: (module, line)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def room_of(module):
    """The name in ORDER of the room that ``fullbatch.a.b.name`` lies in; None for what the package itself holds."""
    parts = module.split(".")[1:]
    while parts and ".".join(parts) not in ORDER:
        parts.pop()
    return ".".join(parts) or None


def test_every_file_has_its_place_in_the_order():
    there = {name for name, _ in rooms()} - {""}
    assert there == set(ORDER), "put a new file into ORDER where it belongs, and take a file that is gone out"
    assert len(ORDER) == len(set(ORDER))


def test_imports_run_one_way():
    upward = []
    for name, tree in rooms():
        if name == "":  # the package itself collects the public names
            continue
        for module, line in imported(tree):
            if module.split(".")[0] != "fullbatch":
                continue
            room = room_of(module)
            if room is None:
                if module != "fullbatch.__version__":
                    upward.append(f"{name}:{line} imports {module}")
            elif ORDER.index(room) <= ORDER.index(name):
                upward.append(f"{name}:{line} imports {room}, which lies above it")
    assert upward == []


def test_the_core_names_no_array_library():
    """The array API alone: which library an array belongs to is asked in backend.py, and the steps may know."""
    named = []
    for name, tree in rooms():
        libraries = {module.split(".")[0] for module, _ in imported(tree)} & ARRAY_LIBRARIES
        if name in CORE:
            libraries -= {"scipy"} if name == "optimizers" else set()  # L-BFGS
            named += [f"{name} imports {library}" for library in libraries]
        if name != "backend" and not name.startswith("steps"):
            named += [f"{name} imports {library}" for library in libraries & {"cupy", "array_api_compat"}]
        assert not libraries & {"torch", "jax"}, name
    assert named == []


def test_scipy_is_imported_only_where_it_is_used():
    """At the top of a file of the core it would make the import of fullbatch slow."""
    for name, tree in rooms():
        if name in CORE | {
            "",
            "backend",
            "steps",
            "steps.array",
            "steps.inplace",
            "sources",
            "sources.memory",
            "sources.columns",
        }:
            top = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
            libraries = {module.split(".")[0] for node in top for module, _ in imported(node)}
            assert not libraries & {"scipy", "sklearn", "joblib", "threadpoolctl", "cupy", "pyarrow"}, name


def test_the_functions_of_the_core_stay_short():
    """About 50 lines, docstring not counted."""
    long = []
    for name, tree in rooms():
        if (
            name not in CORE
            and name != "backend"
            and not name.startswith(("steps", "sources.memory", "sources.columns"))
        ):
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = node.body[0]
                is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
                text = first.end_lineno - first.lineno + 1 if is_text else 0
                lines = node.end_lineno - node.lineno + 1 - text
                if lines > 50:
                    long.append(f"{name}.{node.name}: {lines} lines")
    assert long == []


def test_nobody_pickles():
    """Loading a model runs no code."""
    assert [
        name for name, tree in rooms() for module, _ in imported(tree) if module.split(".")[0] in ("pickle", "dill")
    ] == []
