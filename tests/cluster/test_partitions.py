"""Dask's collections: leaves follow the partitions, predictions come lazily and in their order."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import fullbatch as fb
import fullbatch.dask
from callbacks import At
from fullbatch.errors import ArrayTypeError, InputError, TableError
from fullbatch.fold import tree
from fullbatch.fold.fold import Fold
from fullbatch.sources.pieces import Block, BlockRows, as_block
from fullbatch.steps.native import in_elements

pytest.importorskip("distributed", reason="distributed is not installed")
da = pytest.importorskip("dask.array")
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Sending large graph"),
]
HOW = {"hidden_layer_sizes": (5,), "solver": "lbfgs", "max_iter": 5, "random_state": 0}


def rows(m=1000, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(m, 3))
    return X, np.where(X[:, 0] * X[:, 1] > 0, "up", "down")


def test_an_array_of_one_partition_has_the_bits_of_this_process(client):
    X, y = rows()
    expected = fb.MLPClassifier(**HOW).fit(X, y)
    model = fullbatch.dask.MLPClassifier(**HOW, client=client).fit(da.from_array(X, 1000), da.from_array(y, 1000))
    for one, other in zip(model.coefs_, expected.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert "leaves follow the partitions" in model.note_
    assert model.classes_.tolist() == ["down", "up"]


def test_a_partition_that_begins_at_any_byte_is_copied_once_and_no_other():
    X, y = rows()
    raw = np.empty(X.nbytes + 8, np.uint8)
    odd = raw[8 - raw.ctypes.data % 8 - 3 :][: X.nbytes].view(X.dtype).reshape(X.shape)
    odd[:] = X
    assert not odd.flags.aligned
    block = as_block(0, odd, y, None, classify=True)
    assert in_elements(block.X, block.X.dtype)
    np.testing.assert_array_equal(block.X, X)
    assert as_block(0, X, y, None, classify=True).X is X


def test_partitions_are_leaves_of_their_own_in_their_order(client):
    """The same tree over the partitions, whichever worker has which: here against the sums of each, added by hand."""
    X, y = rows()
    weight = np.random.default_rng(1).uniform(0.5, 2, len(X))
    sizes = (300, 1, 199, 500)
    arrays = [da.from_array(a, ((*sizes,), *a.shape[1:])) for a in (X, y, weight)]
    model = fullbatch.dask.LogisticRegression(max_iter=1, solver="gd", client=client).fit(*arrays)
    objective, starts = tree.Tree(), np.cumsum([0, *sizes])
    net = fb.Network([3, 1])
    zero = np.zeros(4)
    for leaf, (start, stop) in enumerate(pairwise(starts)):
        part = slice(start, stop)
        block = Block(X[part], y[part], weight[part])
        with Fold(net, BlockRows(3, np.array(["down", "up"])).examples(0, stop - start, block)) as fold:
            objective.add(tree.Node(leaf, 1, fold.gradient(zero)))
    total = objective.total()
    np.testing.assert_array_equal(model.coef_[0], -0.001 * (total.vector / total.weight)[:3])


def test_a_frame_and_its_predictions(client):
    pandas, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = rows()
    table = pandas.DataFrame(X, columns=["a", "b", "c"]).assign(late=y)
    frame = dd.from_pandas(table, npartitions=4)
    numbers, target = frame[["a", "b", "c"]], frame["late"]
    model = fullbatch.dask.MLPClassifier(**HOW, client=client).fit(numbers, target)
    assert model.feature_names_in_.tolist() == ["a", "b", "c"]
    local = model.to_local()
    for method in ("predict", "predict_proba", "predict_log_proba"):
        lazy = getattr(model, method)(numbers)
        assert isinstance(lazy, da.Array)
        found = lazy.compute()
        assert lazy.dtype == found.dtype
        np.testing.assert_array_equal(found, getattr(local, method)(table[["a", "b", "c"]]))
        blocks = getattr(model, method)(da.from_array(X, (300, 2)))
        assert blocks.shape == found.shape
        np.testing.assert_array_equal(blocks.compute(), found)
    assert model.score(numbers, target).compute() == local.score(table[["a", "b", "c"]], table["late"])
    with pytest.raises(ArrayTypeError, match="y must be a Dask Array or Series as X is; got ndarray"):
        model.score(numbers, y)
    np.testing.assert_array_equal(model.predict(table[["a", "b", "c"]]), local.predict(table[["a", "b", "c"]]))


@pytest.mark.parametrize("task", ["classify", "regress"])
def test_a_table_s_model_predicts_and_scores_a_frame(client, tmp_path, task, host_step):
    pandas, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = rows()
    table = pandas.DataFrame({"a": X[:, 0], "town": np.where(X[:, 1] > 0, "x", "z"), "late": y})
    kind = fullbatch.dask.TableClassifier
    if task == "regress":
        table["late"], kind = X[:, 0] + (X[:, 1] > 0), fullbatch.dask.TableRegressor
    from fullbatch.tables.store import convert

    convert(table, tmp_path / "store", "late")
    model = kind(hidden=(), epochs=5, solver="lbfgs", client=client).fit(tmp_path / "store")
    frame = dd.from_pandas(table, npartitions=3)
    lazy = model.predict(frame)
    found = lazy.compute()
    assert lazy.dtype == found.dtype
    of_parts = [model.predict(frame.partitions[i].compute()) for i in range(3)]
    np.testing.assert_array_equal(found, np.concatenate(of_parts))
    scores = model.evaluate(frame)
    assert not isinstance(scores, dict)
    if host_step == "native":  # which alone predicts a row alike in any company
        np.testing.assert_array_equal(found, model.predict(table))
        assert scores.compute() == model.evaluate(table)
    else:
        numbers = {name: one for name, one in model.evaluate(table).items() if isinstance(one, float)}
        assert {name: scores.compute()[name] for name in numbers} == pytest.approx(numbers, rel=1e-6)


def test_a_training_goes_on_from_its_checkpoint_on_the_same_rows_alone(client, tmp_path):
    X, y = rows()
    there, labels = da.from_array(X, (300, 3)), da.from_array(y.astype(object), 300)
    how = {**HOW, "client": client}
    whole = fullbatch.dask.MLPClassifier(**how).fit(there, labels)
    model = fullbatch.dask.MLPClassifier(**how).set_callbacks(At(2, stop), fb.Checkpoint(tmp_path / "kept", 0))
    with pytest.raises(InterruptedError):
        model.fit(there, labels)
    kept = fb.Checkpoint(tmp_path / "kept")
    other, swapped = X.copy(), y.astype(object)
    other[999, 2] += 1
    swapped[998:] = swapped[998:][::-1] if swapped[998] != swapped[999] else ["up", "down"]
    for changed in ((da.from_array(other, (300, 3)), labels), (there, da.from_array(swapped, 300)),
                    (da.from_array(X, (500, 3)), da.from_array(y.astype(object), 500))):  # fmt: skip
        with pytest.raises(InputError, match="values"):
            fullbatch.dask.MLPClassifier(**how).fit(*changed, resume=kept)
    found = fullbatch.dask.MLPClassifier(**how).fit(there, labels, resume=kept)
    for one, other in zip(found.coefs_, whole.coefs_, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.loss_curve_ == whole.loss_curve_


def stop():
    raise InterruptedError


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_cannot_be_used(client):
    pandas, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = rows(100)
    there, target = da.from_array(X, 50), da.from_array(y, 50)
    bad = X.copy()
    bad[70, 1] = np.nan
    model = fullbatch.dask.MLPClassifier(**HOW, client=client)
    with pytest.raises(InputError, match=r"partition 1: X is nan in row 20, column 1"):
        model.fit(da.from_array(bad, 50), target)
    with pytest.raises(ArrayTypeError, match="y must be a Dask Array or Series as X is; got ndarray"):
        model.fit(there, y)
    with pytest.raises(InputError, match="X has 2 partitions and y 4: rechunk them alike"):
        model.fit(there, da.from_array(y, 25))
    with pytest.raises(InputError, match=r"partition [01]: it has 50 rows and y of shape \((40|60),\)"):
        model.fit(there, da.from_array(y, ((40, 60),)))
    halves = [there[:50].to_delayed()[0, 0], there[50:].astype("float32").to_delayed()[0, 0]]
    mixed = da.concatenate([da.from_delayed(half, (50, 3), "float64", meta=np.empty((0, 0))) for half in halves])
    with pytest.raises(TableError, match="partition 1 has numbers of 'float32' and partition 0 'float64'"):
        model.fit(mixed, target)
    with pytest.raises(ValueError, match="mini-batches of a Dask collection are refused on a cluster"):
        fullbatch.dask.MLPClassifier(batch_size=50, client=client).fit(there, target)
    frame = dd.from_pandas(pandas.DataFrame(X), npartitions=2)
    with pytest.raises(ArrayTypeError, match=r"the estimators of fullbatch.dask learn from its partitions"):
        fb.MLPClassifier().fit(frame, y)
