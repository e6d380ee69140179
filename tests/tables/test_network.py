"""A table's network without its estimator: the answers of the estimator, and nothing of scikit-learn imported."""

from __future__ import annotations

import subprocess
import sys
from datetime import date
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest

import fullbatch as fb
from fullbatch.core.classes import log_probabilities, probabilities
from fullbatch.core.losses import LOSSES, make_loss
from fullbatch.errors import InputError, ModelFileError
from fullbatch.saving.model_file import load_network
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.predictions import _as_arrow
from fullbatch.tables.raw import RawTable

TARGETS = {
    "two classes": ["yes", "no", "no"] * 100,
    "five classes": [0, 1, 2, 3, 4] * 60,
    "numbers": np.linspace(0, 40, 300) ** 2,
}


def table(target):
    rng = np.random.default_rng(0)
    levels = [f"level {i}" for i in rng.integers(0, 80, 300)]
    return RawTable.of({"x": rng.standard_normal(300), "k": levels, "b": [True, None, False] * 100, "y": target})


@pytest.mark.parametrize("hidden", [(), (7,), (9, 4)])
@pytest.mark.parametrize("target", TARGETS)
def test_its_answers_are_those_of_the_model_to_the_bit(tmp_path, target, hidden):
    data = table(TARGETS[target])
    kind = fb.TableRegressor if target == "numbers" else fb.TableClassifier
    fb.save(kind(hidden=hidden, epochs=3).fit(data, target="y"), tmp_path / "m.model")
    network = load_network(tmp_path / "m.model")
    model = fb.load(tmp_path / "m.model")
    assert isinstance(network, TableNetwork)
    assert network.classes == tuple(getattr(model, "classes_", ()))
    trainer, encoded = model.estimator_, network.encoding.encode(data)
    for rows in (data, data.select(np.array([5]))):
        assert np.array_equal(network.predict(rows), model.predict(rows))
        if network.task == "classify":
            assert np.array_equal(network.predict_proba(rows), model.predict_proba(rows))
        else:
            with pytest.raises(InputError, match="no probabilities"):
                network.predict_proba(rows)
    if network.task == "classify":
        assert np.array_equal(network.predict_proba(data), trainer.predict_proba(encoded))
        assert np.array_equal(network.predict_log_proba(data), trainer.predict_log_proba(encoded))
    else:
        assert np.array_equal(network.predict(data), network.encoding.decode_target(trainer.predict(encoded)))
    assert network.evaluate(data) == model.evaluate(data)
    assert repr(network).startswith("TableNetwork(target='y', task=")


def of_loss(loss, y, *, b, quantile=None, log_target=False):
    """A network that predicts the constant z = b of a table with this target."""
    data = RawTable.of({"x": np.arange(len(y)) * 1.5, "y": np.asarray(y, float)})
    options = {"task": "regress", "dtype": "float64", "loss": loss, "log_target": log_target}
    encoding = TableEncoding.learn(data, "y", **options)
    output = LOSSES[loss].output
    layers = [np.zeros((1, 1))], [np.array([b])]
    return TableNetwork.of_layers(encoding, *layers, "relu", output, loss=loss, quantile=quantile), data


@pytest.mark.parametrize(
    ("loss", "quantile", "guess"),
    [("squared_error", None, np.mean), ("absolute_error", None, np.median), ("poisson", None, np.mean),
     ("quantile", 0.75, lambda y: np.quantile(y, 0.75))],
)  # fmt: skip
def test_the_cost_is_that_of_the_loss(loss, quantile, guess):
    """And the guess is the constant that has the least of it."""
    y = np.array([0.5, 2.0, 3.5, 30.0, 4.0])
    network, data = of_loss(loss, y, b=0.25, quantile=quantile)
    encoded = network.encoding.encode_target(data)
    expected = make_loss(loss, quantile).value(np.full((1, 5), 0.25), encoded[np.newaxis, :], np)
    if loss == "poisson":  # half the deviance, as the estimators have it
        expected = expected - encoded + encoded * np.log(encoded)
    scores = network.evaluate(data)
    assert scores["cost"] == pytest.approx(np.mean(expected))
    assert scores["mae"] == pytest.approx(np.mean(np.abs(y - network.predict(data))))
    best = network.evaluate_guess(encoded, data)
    assert best["mae"] == pytest.approx(np.mean(np.abs(y - guess(y))))
    assert best["cost"] <= scores["cost"]


def test_the_guess_of_a_logarithm_is_the_mean_in_own_units():
    y = np.array([0.5, 2.0, 3.5, 30.0, 4.0])
    network, data = of_loss("squared_error", y, b=0.0, log_target=True)
    assert network.evaluate_guess(network.encoding.encode_target(data), data)["r2"] == pytest.approx(0, abs=1e-9)


def test_poissons_cost_is_finite_where_yhat_is_0():
    network, data = of_loss("poisson", [0.5, 2.0, 3.5], b=-1e4)
    assert network.predict(data).tolist() == [0.0, 0.0, 0.0]
    assert 100 < network.evaluate(data)["cost"] < 1e4


def test_predictions_are_not_negative_where_the_target_never_was_and_targets_stay_as_they_are():
    network, data = of_loss("squared_error", [0.5, 2.0, 3.5], b=-100.0)
    assert network.predict(data).tolist() == [0.0, 0.0, 0.0]
    below = RawTable.of({"x": np.zeros(2), "y": np.array([-4.0, 2.0])})
    assert network.evaluate(below)["mae"] == pytest.approx(3.0)
    negative, data = of_loss("squared_error", [-0.5, 2.0, 3.5], b=-100.0)
    assert negative.predict(data)[0] < -100


@pytest.mark.parametrize(("loss", "quantile"), [("absolute_error", None), ("quantile", 0.9), ("poisson", None)])
def test_the_file_tells_the_loss(tmp_path, loss, quantile):
    """A regressor of a table whose estimator of numbers had another loss: what the command's options make."""
    data = table(TARGETS["numbers"])
    model = fb.TableRegressor(hidden=(4,), epochs=2).fit(data, target="y")
    encoding = TableEncoding.learn(data, "y", task="regress", loss=loss)
    trainer = model.estimator_.set_params(loss=loss, quantile=quantile)
    model._take(encoding, trainer.fit(encoding.encode(data), encoding.encode_target(data)))
    fb.save(model, tmp_path / "m.model")
    network = load_network(tmp_path / "m.model")
    assert (network.network.loss.name, network.network.loss.quantile) == (loss, make_loss(loss, quantile).quantile)
    assert network.encoding.target_scale == encoding.target_scale
    assert network.predict(data).tolist() == encoding.decode_target(trainer.predict(encoding.encode(data))).tolist()


def test_a_bare_estimator_is_refused(tmp_path):
    X = np.random.default_rng(0).standard_normal((40, 2))
    with pytest.warns(Warning, match="converged"):
        model = fb.MLPClassifier((3,), max_iter=1).fit(X, X[:, 0] > 0)
    fb.save(model, tmp_path / "m.model")
    with pytest.raises(ModelFileError, match="holds a bare MLPClassifier"):
        load_network(tmp_path / "m.model")


@pytest.mark.parametrize(
    ("command", "begins"),
    [("predict", "prediction,probability_no,probability_yes\n"), ("info", "{")],
)
def test_predict_and_info_import_no_scikit_learn_scipy_or_pandas(tmp_path, command, begins):
    """Each takes longer than to predict."""
    model = fb.TableClassifier(epochs=1).fit(table(TARGETS["two classes"]), target="y")
    fb.save(model, tmp_path / "m.model")
    (tmp_path / "one.csv").write_text("x,k,b,y\n0.5,level 3,true,no\n")
    code = (
        "import sys; from fullbatch.__main__ import main\n"
        "sys.argv = ['fullbatch', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally: print({'sklearn', 'scipy', 'pandas', 'joblib', 'cupy'} & set(sys.modules), file=sys.stderr)\n"
    )
    data = [] if command == "info" else [str(tmp_path / "one.csv")]
    arguments = [command, str(tmp_path / "m.model"), *data, *([] if command == "predict" else ["--json"])]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(begins)
    if find_spec("cupy") is None:  # which brings what it needs, where it is
        assert done.stderr.strip().splitlines()[-1] == "set()"


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.5, np.inf], "float32"), np.arange(4)[::2], np.array([1.5, 2], ">f8"), np.array([True, False, True]),
        np.array(["a", "", "größer, \"x\""], object), np.array(["a", "bc"]), np.array([], "U1"),
        np.array([date(2024, 1, 31)], object), np.array([1, 10**12], object),
    ],
)  # fmt: skip
def test_columns_for_arrow_are_those_that_arrow_makes(values):
    assert _as_arrow(values).equals(pa.array(values.tolist(), type=_as_arrow(values).type))
    assert _as_arrow(values).type == pa.array(values.astype(values.dtype.newbyteorder("="))).type


@pytest.mark.parametrize(("units", "softmax"), [(1, False), (3, True), (3, False)])
def test_the_logarithms_are_those_of_the_probabilities(xp, units, softmax):
    Z = xp.array(np.random.default_rng(0).normal(0, 3, (units, 40)))
    host = xp.host(Z)
    each = 1 / (1 + np.exp(-host))
    yhat = np.exp(host) / np.exp(host).sum(axis=0) if softmax else each
    expected = np.log(probabilities(yhat))
    assert expected.shape == (max(units, 2), 40)
    np.testing.assert_allclose(
        xp.host(log_probabilities(Z, softmax=softmax)), expected, rtol=max(xp.tolerance, 1e-9), atol=xp.tolerance
    )
