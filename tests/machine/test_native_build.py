"""The library of the native step: found, loaded and chosen; its header mirrored; wrong calls refused.

Where FULLBATCH_REQUIRE_NATIVE=1 is set (CI does), a library that is not there fails these tests; elsewhere they skip.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fullbatch
from fullbatch.command import app
from fullbatch.errors import InputError
from fullbatch.machine import native_library
from fullbatch.machine.native_library import SIGNATURES, VARIABLE, Block, Blocks, Descent, OutputLoss, Rule

NATIVE = Path(__file__).parents[2] / "src" / "native"
HEADER = (NATIVE / "fullbatch_native.h").read_text(encoding="utf-8")
CTYPES = {
    "int": ctypes.c_int, "int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64, "uint64_t": ctypes.c_uint64,
    "double": ctypes.c_double,
}  # fmt: skip


@pytest.fixture(autouse=True)
def unforced(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def library():
    found = native_library.load()
    if found is None:
        reason = f"the native step is {native_library.why_not()}"
        if os.environ.get("FULLBATCH_REQUIRE_NATIVE") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture
def forget():
    """The library is looked for anew, in the test and after it."""
    for cached in (native_library._open, native_library._usable):
        cached.cache_clear()
    yield
    for cached in (native_library._open, native_library._usable):
        cached.cache_clear()


def declarations():
    """Each function of the header: (what it returns, its name, the types of its arguments)."""
    text = re.sub(r"//[^\n]*", "", HEADER)
    for result, star, name, arguments in re.findall(r"FB_EXPORT ([\w ]+?)( \*|\* | )(\w+)\(([^)]*)\);", text):
        types = [] if arguments.strip() == "void" else [a.strip().rpartition(" ")[0] for a in arguments.split(",")]
        names = [a.strip().rpartition(" ")[2] for a in arguments.split(",")]
        types = [t + "*" * name.count("*") for t, name in zip(types, names, strict=False)]
        yield (result + star).replace(" *", "*").strip(), name, types


def fits(kind: str, declared: object, is_result: bool = False) -> bool:
    """Whether what native_library declares can stand for this type of C."""
    kind = kind.replace("const ", "").replace(" ", "")
    if kind == "void" and is_result:
        return declared is None
    if kind == "char*":
        return declared is ctypes.c_char_p
    if kind in CTYPES:
        return declared is CTYPES[kind]
    pointed = {
        "fb_examples": Block,
        "fb_rule": Rule,
        "fb_output_loss": OutputLoss,
        "fb_blocks": Blocks,
        "fb_descent": Descent,
        **CTYPES,
    }.get(kind[:-1])
    return kind.endswith("*") and (declared is ctypes.c_void_p or declared is ctypes.POINTER(pointed))


def test_the_header_is_mirrored():
    found = {name: (result, types) for result, name, types in declarations()}
    assert len(found) == HEADER.count("FB_EXPORT ") - HEADER.count("#define FB_EXPORT ")
    assert set(found) == set(SIGNATURES)
    for name, (result, types) in found.items():
        declared, arguments = SIGNATURES[name]
        assert fits(result, declared, is_result=True), name
        assert len(types) == len(arguments), name
        assert all(map(fits, types, arguments)), name
    assert re.search(rf"FB_ABI = {native_library.ABI} ", HEADER)


@pytest.mark.parametrize(
    ("name", "mirror"),
    [
        ("fb_examples", Block),
        ("fb_rule", Rule),
        ("fb_output_loss", OutputLoss),
        ("fb_blocks", Blocks),
        ("fb_descent", Descent),
    ],
)
def test_the_structures_are_mirrored(name, mirror):
    body = re.search(rf"typedef struct \{{([^}}]*)\}} {name};", re.sub(r"//[^\n]*", "", HEADER)).group(1)
    fields = []
    for line in filter(None, map(str.strip, body.split(";"))):
        kind, names = re.fullmatch(r"((?:const )?\w+\*?) (.*)", line).groups()
        declared = ctypes.c_void_p if kind.endswith("*") else CTYPES[kind]
        fields += [(field.strip(), declared) for field in names.split(",")]
    assert list(mirror._fields_) == fields


def test_no_fast_math():
    build = (NATIVE / "CMakeLists.txt").read_text(encoding="utf-8")
    assert not re.search(r"^[^#]*(compile|link)_options.*-ffast-math", build, re.MULTILINE)
    for file in [*NATIVE.glob("*.cpp"), *NATIVE.glob("*.h")]:
        assert "fast-math" not in file.read_text(encoding="utf-8"), file


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("ninja")), reason="needs cmake and ninja")
@pytest.mark.parametrize("variable", ["CXXFLAGS", "LDFLAGS"])
def test_fast_math_from_the_environment_is_refused(variable, tmp_path):
    """Linked with it, the library would turn denormals off in the whole process."""
    ours = {name: value for name, value in os.environ.items() if name not in ("CXXFLAGS", "LDFLAGS", "LD_PRELOAD")}
    command = ["cmake", "-S", str(NATIVE), "-B", str(tmp_path), "-G", "Ninja"]
    done = subprocess.run(command, capture_output=True, text=True, env={**ours, variable: "-O2 -ffast-math"})
    assert done.returncode
    assert "break NaN, infinities and denormals" in " ".join(done.stderr.split())


def test_the_import_does_not_load_it():
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("asks /proc what is loaded")
    loaded = f"'{native_library.FILE}' in open('{maps}').read()"
    code = f"import fullbatch; print({loaded})\n"
    code += f"from fullbatch.machine import native_library as n; print(n.load() is not None, {loaded})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"] + [str(native_library.load() is not None)] * 2


# --- Which instruction set


def test_the_best_one_is_chosen(library):
    usable = native_library.isas()
    assert usable
    assert native_library.isa() == usable[0]
    assert [number for number, _ in usable] == sorted(number for number, _ in usable)
    assert {name for _, name in usable} <= set(native_library.NAMES)
    assert native_library.why_not() == ""


def test_one_can_be_forced(library, monkeypatch):
    for number, name in native_library.isas():
        for text in (name, f" {name.upper()} "):
            monkeypatch.setenv(VARIABLE, text)
            assert native_library.isa() == (number, name)
    monkeypatch.setenv(VARIABLE, "")
    assert native_library.isa() == native_library.isas()[0]


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(VARIABLE, "off")
    assert native_library.load() is None
    assert native_library.isa() is None
    assert native_library.isas() == []
    assert native_library.why_not() == "switched off by FULLBATCH_NATIVE=off"


def test_an_unknown_one(monkeypatch):
    monkeypatch.setenv(VARIABLE, "mmx")
    for ask in (native_library.load, native_library.isa, native_library.isas, native_library.why_not):
        with pytest.raises(InputError, match="FULLBATCH_NATIVE=mmx is unknown; the known ones are amx, avx512, avx2"):
            ask()


def test_one_that_cannot_be_used_here(library, monkeypatch):
    usable = [name for _, name in native_library.isas()]
    monkeypatch.setenv(VARIABLE, next(name for name in native_library.NAMES if name not in usable))
    with pytest.raises(InputError, match=f"which has {', '.join(usable)}; set one of them or off"):
        native_library.isa()


# --- Why it is not there


def test_not_compiled(forget, monkeypatch, tmp_path):
    monkeypatch.setattr(fullbatch, "__path__", [str(tmp_path)])
    assert native_library.load() is None
    assert native_library.isa() is None
    assert native_library.isas() == []
    assert re.match("not compiled: no C.. compiler was found when fullbatch was installed", native_library.why_not())
    monkeypatch.setenv(VARIABLE, "portable")
    with pytest.raises(InputError, match=r"the native step is not compiled: .*; unset it"):
        native_library.isa()


def test_not_a_library(forget, monkeypatch, tmp_path):
    (tmp_path / native_library.FILE).write_bytes(b"no library")
    monkeypatch.setattr(fullbatch, "__path__", [str(tmp_path)])
    assert native_library.load() is None
    assert native_library.why_not().startswith(f"there but cannot be loaded: {tmp_path / native_library.FILE}")
    assert "\n" not in native_library.why_not()


def test_an_older_library(library, forget, monkeypatch):
    monkeypatch.setattr(native_library, "ABI", native_library.ABI + 1)
    assert native_library.load() is None
    assert re.match("out of date: .* install it again", native_library.why_not())


def test_a_library_that_lacks_a_function(library, forget, monkeypatch):
    monkeypatch.setitem(SIGNATURES, "fb_dance", (None, ()))
    assert native_library.load() is None
    assert re.match("there but cannot be loaded: .*fb_dance", native_library.why_not())


def test_info_tells(capsys, monkeypatch):
    def info(*arguments):
        assert app.main(["info", *arguments]) == 0
        return capsys.readouterr().out

    usable = [name for _, name in native_library.isas()]
    found = json.loads(info("--json"))["native"]
    assert found["usable"] == usable
    assert (found["isa"] in usable, found["why_not"]) == (bool(usable), native_library.why_not())
    row = next(line for line in info().splitlines() if "native code" in line)
    assert (found["isa"] or "none: ") in row
    monkeypatch.setenv(VARIABLE, "off")
    assert "none: switched off by FULLBATCH_NATIVE=off" in info()
    assert json.loads(info("--json"))["native"]["isa"] is None
    monkeypatch.setenv(VARIABLE, "mmx")
    assert app.main(["info"]) == app.BAD_INPUT
    assert "FULLBATCH_NATIVE=mmx is unknown" in capsys.readouterr().err


# --- The boundary


def int64s(*values):
    return (ctypes.c_int64 * len(values))(*values)


def int32s(*values):
    return (ctypes.c_int32 * len(values))(*values)


GOOD = {"isa": 0, "dtype": 4, "layers": 2, "sizes": int64s(3, 4, 1), "activations": int32s(0), "output": OutputLoss(0)}
BAD = [
    {"isa": -1}, {"isa": 99}, {"dtype": 3}, {"dtype": 0}, {"layers": 0}, {"layers": -1}, {"layers": 2**62},
    {"sizes": None}, {"sizes": int64s(3, 0, 1)}, {"sizes": int64s(-3, 4, 1)}, {"sizes": int64s(2**40, 2**40, 2**40)},
    {"sizes": int64s(2**62, 1, 1)}, {"sizes": int64s(1, 2**62, 1)}, {"activations": None}, {"activations": int32s(-1)},
    {"activations": int32s(7)}, {"output": None}, {"output": OutputLoss(-1)}, {"output": OutputLoss(4)},
    {"output": OutputLoss(0, 1, 1.0, 1.0)}, {"output": OutputLoss(2, 1, -0.5, 1.0)},
    {"output": OutputLoss(2, 1, 1.0, np.nan)},
]  # fmt: skip


@pytest.fixture
def step(library):
    number, _ = native_library.isa()
    made = library.fb_step_new(*{**GOOD, "isa": number}.values())
    assert made
    yield made
    library.fb_step_free(made)


@pytest.mark.parametrize("change", BAD, ids=lambda change: next(iter(change)))
def test_no_step_for_wrong_arguments(library, change):
    number, _ = native_library.isa()
    assert not library.fb_step_new(*{**GOOD, "isa": number, **change}.values())


def test_wrong_blocks_are_refused(library, step):
    x = np.ones(8, np.float32)
    X = x.ctypes.data
    out, loss, weight = np.empty(64), ctypes.c_double(), ctypes.c_double()
    good = {"X": X, "x_feature": 1, "Y": X, "m": 1}
    indices, starts = np.arange(3, dtype=np.int32), np.array([0, 2, 3], np.int32)
    sparse = {**good, "m": 2, "indptr": starts.ctypes.data, "features": indices.ctypes.data}
    backward, negative = np.array([0, 2, 1], np.int32), np.array([-1, 0, 1], np.int32)
    three, below = np.array([0, 1, 3], np.int32), np.array([0, -1, 2], np.int32)
    wrong = [
        {**good, "m": -1},
        {**good, "X": None},
        {**good, "Y": None},
        {**sparse, "X": None},
        {**sparse, "features": None},
        {**sparse, "indptr": backward.ctypes.data},
        {**sparse, "indptr": negative.ctypes.data},
        {**sparse, "features": three.ctypes.data},  # of 3 features
        {**sparse, "features": below.ctypes.data},
    ]
    theta = np.zeros(64)
    library.fb_step_load(step, theta.ctypes.data)
    for block in wrong:
        examples = Block(**block)
        assert library.fb_step_gradient(step, examples, out.ctypes.data, loss, weight) == -1, block
        assert library.fb_step_cost(step, examples, loss, weight) == -1, block
        if block.get("Y") is not None:
            assert library.fb_step_predict(step, examples, out.ctypes.data) == -1, block
    examples = Block(**good)
    assert library.fb_step_gradient(None, examples, out.ctypes.data, loss, weight) == -1
    assert library.fb_step_gradient(step, None, out.ctypes.data, loss, weight) == -1
    assert library.fb_step_gradient(step, examples, None, loss, weight) == -1
    assert library.fb_step_gradient(step, examples, out.ctypes.data, None, weight) == -1
    assert library.fb_step_cost(step, examples, loss, None) == -1
    assert library.fb_step_predict(step, examples, None) == -1
    library.fb_step_load(step, None)
    library.fb_step_load(None, None)
    library.fb_step_free(None)
    for block in (good, sparse, {"m": 0}):
        assert library.fb_step_gradient(step, Block(**block), out.ctypes.data, loss, weight) == 0
    assert library.fb_step_predict(step, Block(m=0), None) == 0


def test_wrong_trainers_are_refused(library):
    number, _ = native_library.isa()
    network = {**GOOD, "isa": number}

    def make(**change):
        return library.fb_trainer_new(*{**network, "batch": 2, "rule": Rule(), **change}.values())

    batches = [{"batch": 0}, {"batch": -1}, {"batch": 2**62}]
    for change in [*BAD, *batches, {"rule": None}, {"rule": Rule(kind=-1)}, {"rule": Rule(kind=4)}]:
        assert not make(**change), change
    x, theta, rates, cost = np.ones(12, np.float32), np.zeros(21, np.float32), np.zeros(1), ctypes.c_double()
    order, far, negative = np.array([2, 0]), np.array([0, 3]), np.array([-1, 0])
    X = x.ctypes.data
    examples = Block(X=X, x_feature=1, x_example=3, Y=X, y_example=1, m=2)
    made = make()
    good = {
        "trainer": made, "threads": 1, "examples": examples, "order": order.ctypes.data, "m_X": 3, "batch": 2,
        "rates": rates.ctypes.data, "seconds": 1.0, "cost": cost,
    }  # fmt: skip
    wrong = [
        {"trainer": None}, {"threads": 0}, {"examples": None}, {"examples": Block(m=2)},
        {"examples": Block(X=X, m=2)}, {"order": far.ctypes.data}, {"order": negative.ctypes.data}, {"m_X": 2},
        {"m_X": -1}, {"batch": 0}, {"batch": 3}, {"rates": None}, {"cost": None},
    ]  # fmt: skip
    library.fb_trainer_load(made, theta.ctypes.data, None, None)
    for change in wrong:
        assert library.fb_trainer_run(*{**good, **change}.values()) == -1, change
    assert library.fb_trainer_run(*good.values()) == 2
    library.fb_trainer_load(made, None, None, None)
    library.fb_trainer_store(made, None, None, None)
    library.fb_trainer_store(None, theta.ctypes.data, None, None)
    library.fb_trainer_free(None)
    library.fb_trainer_free(made)


def test_wrong_maps_are_refused(library):
    number, _ = native_library.isa()
    x = np.ones(4)
    good = {"isa": number, "dtype": 8, "function": 0, "x": x.ctypes.data, "y": x.ctypes.data, "n": 4}
    for change in ({"isa": 99}, {"dtype": 2}, {"function": -1}, {"function": 5}, {"x": None}, {"y": None}, {"n": -1}):
        assert library.fb_map(*{**good, **change}.values()) == -1, change
    assert library.fb_map(*{**good, "n": 0, "x": None, "y": None}.values()) == 0
    assert library.fb_map(*good.values()) == 0


def test_the_names_past_the_last(library):
    count = 0
    while library.fb_isa_name(count):
        count += 1
    assert count >= len(native_library.isas())
    for number in (-1, count, count + 1, 2**31 - 1):
        assert library.fb_isa_name(number) is None
        assert not library.fb_isa_usable(number)


def test_loading_it_leaves_denormals_on(library):
    """A library linked with -ffast-math turns them off in the whole process."""
    smallest = np.nextafter(np.float32(0), np.float32(1))
    assert smallest * np.float32(2) > smallest > 0
