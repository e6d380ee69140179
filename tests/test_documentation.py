"""Every public name says what it takes, gives and raises; and the defaults in the text are those of the signature."""

from __future__ import annotations

import doctest
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import fullbatch as fb
from fullbatch.docstrings import defaults_of, described, entries, shown, split

HOUSE = Path(fb.__file__).parent
# What the package itself calls, or scikit-learn: one line says what it is.
OF_OTHERS = {
    "forward_unchecked", "backward_unchecked", "summed_loss", "check",
    "tell", "setup", "teardown", "on_fit_task_begin", "on_fit_task_end",
}  # fmt: skip
FROM_SCIKIT_LEARN = {"get_params", "set_params", "get_metadata_routing", "set_callbacks", "is_fitted"}


def own_methods(thing):
    """The public methods and properties that are ours, by name, of a class."""
    for name in dir(thing):
        member = inspect.getattr_static(thing, name)
        if name.startswith(("_", "set_")) or name in FROM_SCIKIT_LEARN or "metadata" in name:
            continue
        found = getattr(thing, name, None) if not isinstance(member, property) else member.fget
        if callable(found) and getattr(found, "__module__", "").startswith("fullbatch"):
            yield name, found, isinstance(member, property)


def public():
    """Every public name, and the methods and properties of the classes among them: (name, thing, how)."""
    for name in fb.__all__:
        thing = getattr(fb, name)
        if not callable(thing):
            continue
        yield pytest.param(thing, "name", id=name)
        if inspect.isclass(thing):
            for method, found, is_property in own_methods(thing):
                yield pytest.param(found, "property" if is_property else "method", id=f"{name}.{method}")


@pytest.mark.parametrize(("thing", "how"), list(public()))
def test_a_public_name_is_documented_whole(thing, how):
    assert thing.__doc__, "it has no docstring"
    sections = split(thing.__doc__)
    assert sections[""], "it does not say what it is"
    if how == "property" or thing.__name__ in OF_OTHERS:
        return
    texts, defaults = entries(sections.get("Parameters", "")), defaults_of(thing)
    assert set(texts) == set(defaults), "parameters are missing, or there are others than those of the signature"
    for name, text in texts.items():
        first, _, rest = text.partition("\n")
        assert rest.strip() or " in fit" in first, f"{name} is not explained"
        default = defaults[name]
        if default is not inspect.Parameter.empty and "default=" in first:
            assert first.endswith(f"default={shown(default)}"), name
        elif default is not inspect.Parameter.empty:
            assert (default, first[-8:]) == (None, "optional"), f"the default {default!r} of {name} is not said"
    if how == "name":
        assert ">>>" in sections.get("Examples", ""), "it has no example"
    returns = inspect.signature(thing).return_annotation
    if not inspect.isclass(thing) and returns not in ("None", inspect.Signature.empty):
        assert "Returns" in sections, "it does not say what it gives"


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor", "LogisticRegression", "TableClassifier"])
def test_an_estimator_of_a_cluster_has_the_parameters_of_the_plain_one(name):
    pytest.importorskip("distributed")
    import fullbatch.dask

    texts = entries(split(getattr(fullbatch.dask, name).__doc__)["Parameters"])
    assert texts.pop("client").splitlines()[0].endswith("default=None")
    assert texts == entries(split(getattr(fb, name).__doc__)["Parameters"])


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor", "LogisticRegression"])
def test_what_a_fit_leaves_is_documented(name):
    model = getattr(fb, name)(solver="lbfgs").fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    left = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert left <= set(entries(split(type(model).__doc__)["Attributes"]))


@pytest.mark.parametrize("kind", [fb.TableClassifier, fb.TableRegressor])
def test_what_a_fit_of_a_table_leaves_is_documented(kind):
    model = kind(hidden=(2,), epochs=1).fit({"x": [0.0, 1.0] * 20, "y": [1, 2] * 20}, target="y")
    left = {name for name in vars(model) if name.endswith("_") and not name.startswith("_")}
    assert left <= set(entries(split(kind.__doc__)["Attributes"]))


MODULES = sorted(
    ".".join(("fullbatch", *path.relative_to(HOUSE).with_suffix("").parts)).removesuffix(".__init__")
    for path in HOUSE.rglob("*.py")
    if re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.MULTILINE)
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_run(name):
    outcome = doctest.testmod(import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted > 0, "there are examples, and none was run"
    assert outcome.failed == 0


def test_a_docstring_is_completed_in_the_order_of_the_signature():
    @described({"l2": "float\n    The penalty.", "other": "int\n    Of nobody."}, {"n_": "int\n    Rows."})
    class Model:
        """A model.

        More of it.

        Parameters
        ----------
        sizes : list
            Of layers.

        Attributes
        ----------
        loss_ : float
            The last.
        """

        def __init__(self, *, l2=0.5, sizes=(1,), name="a"):
            pass

    sections = split(Model.__doc__)
    assert sections[""] == "A model.\n\nMore of it."
    assert sections["Parameters"].splitlines() == [
        "l2 : float, default=0.5", "    The penalty.", "sizes : list, default=(1,)", "    Of layers.",
    ]  # fmt: skip
    assert list(entries(sections["Attributes"])) == ["loss_", "n_"]


def test_without_docstrings_nothing_is_completed():
    def cost(params):
        pass

    assert described({"params": "list"})(cost).__doc__ is None  # as python -OO has it
