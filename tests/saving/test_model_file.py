"""Model files: what comes back is what was saved, and whatever is not a model is one clear line."""

from __future__ import annotations

import copy
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save as to_bytes

import fullbatch as fb
from fullbatch.errors import InputError, ModelFileError
from fullbatch.saving import model_file
from fullbatch.saving.model_file import (
    ALWAYS_FITTED,
    FORMAT,
    FORMAT_VERSION,
    check_replaceable,
    load,
    save,
    sealed,
)
from fullbatch.tables.raw import RawTable

pytestmark = pytest.mark.filterwarnings(
    "ignore:Stochastic Optimizer", "ignore:Gradient descent", "ignore:lbfgs failed to converge"
)

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 3))
CODES = np.arange(60) % 3
ESTIMATORS = {
    "adam": (lambda: fb.MLPClassifier((5, 4), max_iter=3, random_state=1), CODES),
    "sgd": (lambda: fb.MLPClassifier((4,), "tanh", solver="sgd", max_iter=3, random_state=1), CODES),
    "early": (lambda: fb.MLPClassifier((4,), max_iter=3, random_state=1, early_stopping=True), CODES),
    "lbfgs": (lambda: fb.MLPClassifier((4,), solver="lbfgs", max_iter=3, random_state=1), CODES > 0),
    "gd": (lambda: fb.MLPRegressor(hidden_layer_sizes=(4,), solver="gd", max_iter=3, random_state=1), X[:, 0]),
    "counts": (lambda: fb.MLPRegressor("poisson", (4,), max_iter=3, random_state=1), CODES),
    "absolute": (lambda: fb.MLPRegressor("absolute_error", (4,), max_iter=3, random_state=1), X[:, 0]),
    "quantile": (lambda: fb.MLPRegressor("quantile", (4,), quantile=0.9, max_iter=3, random_state=1), X[:, 0]),
    "two outputs": (lambda: fb.MLPRegressor(hidden_layer_sizes=(4,), max_iter=3, random_state=1), X[:, :2]),
    "several labels": (lambda: fb.MLPClassifier((4,), max_iter=3, random_state=1), (X > 0).astype(int)),
    "one class": (lambda: fb.MLPClassifier((4,), max_iter=3, random_state=1), np.zeros(60, int)),
    "logistic": (lambda: fb.LogisticRegression(max_iter=5, C=np.inf), CODES),
    "per layer": (lambda: fb.MLPClassifier([3, 2], ["relu", "gelu"], max_iter=3, random_state=1), CODES),
    "random state": (lambda: fb.MLPClassifier((4,), max_iter=3, random_state=np.random.RandomState(5)), CODES),
    "weighted": (lambda: fb.MLPClassifier((4,), max_iter=3, class_weight={0: 2.0, np.int64(1): 1.0}), CODES),
}  # fmt: skip


def same(a, b) -> bool:
    """Equal in type, and in value to the bit."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    if isinstance(a, np.random.RandomState):
        return same(a.get_state(legacy=False), b.get_state(legacy=False))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "__dict__"):
        return type(a) is type(b) and same(vars(a), vars(b))
    return a == b and isinstance(b, (type(a), float, int, str, type(None)))


def table_model() -> fb.TableClassifier:
    table = RawTable.of({"x": np.arange(40.0), "k": ["u", None, "v", "w"] * 10, "y": [True, False] * 20})
    return fb.TableClassifier(hidden=(3,), epochs=2).fit(table, target="y")


@pytest.fixture(scope="module")
def content(tmp_path_factory) -> bytes:
    """A model file of a table."""
    path = tmp_path_factory.mktemp("content") / "m.model"
    save(table_model(), path)
    return path.read_bytes()


# --- Back and forth


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_attribute_comes_back(tmp_path, name, dtype):
    make, y = ESTIMATORS[name]
    model = make().fit(X.astype(dtype), y)
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model")
    assert type(back) is type(model)
    for key, value in vars(model).items():
        assert same(value, vars(back)[key]), key
    assert vars(back).keys() == vars(model).keys()
    assert np.array_equal(model.predict(X.astype(dtype)), back.predict(X.astype(dtype)))


@pytest.mark.parametrize("name", ["adam", "sgd", "gd", "counts"])
def test_partial_fit_goes_on_as_if_nothing_had_been(tmp_path, name):
    make, y = ESTIMATORS[name]
    model = make()
    more = {"classes": [0, 1, 2]} if hasattr(model, "predict_proba") else {}
    model.partial_fit(X, y, **more)
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model")
    model.partial_fit(X, y)
    back.partial_fit(X, y)
    assert same(model.coefs_, back.coefs_)


def test_a_warm_start_goes_on(tmp_path):
    model = fb.MLPClassifier((4,), warm_start=True, max_iter=2, random_state=3).fit(X, CODES)
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model").fit(X, CODES)
    assert same(model.fit(X, CODES).coefs_, back.coefs_)
    assert len(back.loss_curve_) == 4


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["b", "ä", "c"]),
        np.array(["b", "a", "long label"], dtype=object),
        np.array([-3, 5, 1 << 40]),
        np.array([0.0, 1.0, -2.0]),
        np.array([True, False, True]),
        np.array([1, 2, 250], dtype=np.uint8),
    ],
)
def test_labels_of_any_plain_kind(tmp_path, labels):
    model = fb.MLPClassifier((3,), max_iter=2).fit(X, labels[CODES])
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model")
    assert same(model.classes_, back.classes_)
    assert same(model.predict(X), back.predict(X))


def test_names_of_features_come_back(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, columns=["a", "b", "ü"])
    model = fb.LogisticRegression(max_iter=3).fit(frame, CODES)
    save(model, tmp_path / "m.model")
    assert load(tmp_path / "m.model").feature_names_in_.tolist() == ["a", "b", "ü"]


@pytest.mark.parametrize("name", ["absolute", "quantile", "counts"])
def test_the_loss_comes_back(tmp_path, name):
    """``partial_fit`` goes on by the same one."""
    make, y = ESTIMATORS[name]
    model = make().fit(X, y)
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model")
    assert (back.loss, back.quantile, back.step_) == (model.loss, model.quantile, model.step_)
    assert same(model.partial_fit(X, y).coefs_, back.partial_fit(X, y).coefs_)


def test_a_table_model_comes_back(tmp_path):
    model = table_model()
    save(model, tmp_path / "m.model")
    back = load(tmp_path / "m.model")
    assert back.classes_.tolist() == [False, True]
    assert same({**vars(model), "n_jobs": None}, vars(back))
    save(back, tmp_path / "again.model")
    assert (tmp_path / "again.model").read_bytes() == (tmp_path / "m.model").read_bytes()
    new = RawTable.of({"k": ["u", "new", None], "x": [3.0, None, 500.0]})
    assert np.array_equal(model.predict_proba(new), back.predict_proba(new))
    assert same(vars(model.network_.encoding), vars(back.network_.encoding))


def test_the_same_model_is_the_same_bytes(tmp_path, content):
    for name in ("a", "b"):
        save(table_model(), tmp_path / name)
        assert (tmp_path / name).read_bytes() == content


def test_arrays_in_any_order_and_byte_order(tmp_path):
    model = fb.LogisticRegression(max_iter=3).fit(X, CODES)
    expected = model.predict_proba(X)
    model.coefs_ = [np.asfortranarray(model.coefs_[0]).astype(">f8")]
    save(model, tmp_path / "m.model")
    assert np.array_equal(load(tmp_path / "m.model").predict_proba(X), expected)


# --- What cannot be saved


def test_what_cannot_be_saved_is_said_and_nothing_is_written(tmp_path):
    path = tmp_path / "m.model"
    own = fb.MLPClassifier((3,), (np.tanh, lambda z: 1 - np.tanh(z) ** 2), max_iter=1).fit(X, CODES)
    with pytest.raises(InputError, match="activation holds a function of your own"):
        save(own, path)
    with pytest.raises(InputError, match="not fitted"):
        save(fb.MLPClassifier(), path)
    with pytest.raises(InputError, match="of type dict cannot be saved"):
        save({"a": 1}, path)

    class Mine(fb.MLPClassifier):
        pass

    with pytest.raises(InputError, match="of type Mine cannot be saved"):
        save(Mine((3,), max_iter=1).fit(X, CODES), path)
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        save(table_model(), tmp_path / "none" / "m.model")


def test_only_a_model_is_replaced(tmp_path, content):
    check_replaceable(tmp_path / "new")
    for name, there, fine in [("model", content, True), ("empty", b"", True), ("data", b"a,b\n1,2\n", False)]:
        path = tmp_path / name
        path.write_bytes(there)
        if fine:
            check_replaceable(path)
        else:
            with pytest.raises(InputError, match="exists and is not a model file"):
                check_replaceable(path)


# --- What cannot be loaded


def refused(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "m.model"
    assert "empty" in refused(path, b"")
    assert "not a model file" in refused(path, b"a,b\n1,2\n3,4\n")
    assert "not a model file" in refused(path, b"PK\x03\x04")
    assert "another program" in refused(path, to_bytes({"w": np.zeros(3)}))
    assert "another program" in refused(path, to_bytes({"w": np.zeros(3)}, {"format": "pt"}))
    assert "truncated or damaged" in refused(path, to_bytes({"w": np.zeros(3)}, {"format": FORMAT}))
    with pytest.raises(ModelFileError, match="no such model file"):
        load(tmp_path / "none")
    with pytest.raises(ModelFileError, match="is a folder"):
        load(tmp_path)


@given(st.data())
def test_a_truncated_file_is_refused(tmp_path, content, data):
    refused(tmp_path / "m.model", content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.data())
def test_damaged_bytes_are_refused_or_harmless(tmp_path, content, data):
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "m.model"
    path.write_bytes(damaged)
    try:
        model = load(path)
    except ModelFileError:  # and no other error
        return
    assert isinstance(model, fb.TableClassifier)


def test_a_flipped_bit_in_a_weight_is_refused(tmp_path, content):
    start = 8 + int.from_bytes(content[:8], "little")
    for place in (start, (start + len(content)) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[place] ^= 4
        assert "checksum" in refused(tmp_path / "m.model", bytes(damaged))


def parts(content: bytes) -> tuple[dict, dict]:
    """The JSON of a model file, and its arrays."""
    from safetensors.numpy import load as from_bytes

    length = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"][FORMAT]), from_bytes(content)


def test_a_newer_version_is_named(tmp_path, content):
    values, arrays = parts(content)
    newer = {**values, "format_version": FORMAT_VERSION + 1, "fullbatch": "7.8"}
    message = refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: sealed(newer, arrays)}))
    assert f"newer fullbatch (7.8, format {FORMAT_VERSION + 1})" in message
    assert "pip install --upgrade fullbatch" in message


def changed(values, *keys, to):
    values = copy.deepcopy(values)
    place = values
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return values


@pytest.mark.parametrize(
    ("keys", "to"),
    [
        (["format_version"], "1"),
        (["kind"], "pipeline"),
        (["kind"], None),
        (["estimator"], []),
        (["encoding"], None),
        (["estimator", "class"], "os.system"),
        (["estimator", "class"], "MLPRegressor"),
        (["estimator", "class"], ["MLPClassifier"]),
        (["estimator", "params", "solver"], "newton"),
        (["estimator", "params", "hidden_layer_sizes"], [7]),
        (["estimator", "params", "__class__"], 1),
        (["estimator", "params", "alpha"], {"$": "pickle", "value": "gASVAAAA"}),
        (["estimator", "params", "alpha"], {"a": 1}),
        (["estimator", "params", "random_state"], {"$": "RandomState", "state": {"$": "dict", "items": []}}),
        (["estimator", "fitted", "predict"], "x"),
        (["estimator", "fitted", "__class__"], "x"),
        (["estimator", "fitted", "coefs_"], []),
        (["estimator", "fitted", "coefs_"], [{"$": "array", "name": "nowhere"}]),
        (["estimator", "fitted", "coefs_"], [[[1.0]]]),
        (["estimator", "fitted", "n_features_in_"], 4),
        (["estimator", "fitted", "n_features_in_"], True),
        (["estimator", "fitted", "t_"], -1),
        (["estimator", "fitted", "classes_"], "no"),
        (["estimator", "fitted", "loss_curve_"], ["x"]),
        (["estimator", "fitted", "out_activation_"], "softmax"),
        (["estimator", "fitted", "out_activation_"], "identity"),
        (["estimator", "optimizer"], {"$": "dict", "items": [["solver", "adam"]]}),
        (["threshold"], "0.5"),
        (["threshold"], 1.0),
        (["threshold"], True),
        (["encoding", "task"], "regress"),
        (["encoding", "classes"], ["a", "b", "c"]),
        (["encoding", "numbers"], []),
        (["encoding", "dtype"], "O"),
        (["encoding", "target"], 3),
        (["encoding", "feature_names", 0], None),
        (["encoding", "numbers", 0], ["a"]),
        (["encoding", "classes", 0], {}),
        (["encoding", "categories", 0, "name"], 3),
        (["encoding", "categories", 0, "levels", 0], ["a"]),
        (["encoding", "categories", 0, "levels"], ["u", "u", "w"]),
        (["encoding", "categories", 0, "levels"], ["u", 1, "w"]),
        (["encoding", "categories", 0, "other"], -1),
        (["encoding", "categories", 0, "other"], 2),
        (["encoding", "categories", 0, "missing"], 0.5),
        (["encoding", "categories", 0, "name"], "x"),
        (["encoding", "categories", 0, "part"], "hour"),
        (["encoding", "classes"], [True, True]),
        (["encoding", "classes"], [True, "no"]),
        (["encoding", "feature_names"], ["x", "x"]),
        (["encoding", "feature_names"], ["x", "k", "more"]),
        (["encoding", "indicators"], ["k"]),
        (["encoding", "numbers"], ["k"]),
        (["encoding", "target"], "x"),
        (["encoding", "target_scale"], [0.0, -1.0]),
        (["encoding", "target_scale"], [0.0]),
        (["encoding", "target_scale"], [0.0, 1.0, 2.0]),
        (["encoding", "decimal"], ";"),
        (["encoding", "date_formats"], [["nowhere", "%d"]]),
        (["estimator", "params", "activation"], [1, 2]),
        (["estimator", "params", "n_jobs"], 0),
        (["estimator", "params", "device"], "gpu"),
        (["estimator", "fitted", "classes_"], {"$": "objects", "shape": [2], "text": True, "values": ["no", "yes"]}),
        (["params", "device"], "gpu"),
        (["params", "hidden"], [5]),
        (["params", "l2"], 10**400),
        (["params", "l2"], {"$": "float", "value": "1_0"}),
        (["params", "drop"], {"$": "tuple", "items": "x"}),
        (["encoding", "classes"], "ny"),
        (["encoding", "classes"], ["yes", "no"]),
        (["encoding", "indicators"], {}),
        (["encoding", "categories", 0, "levels"], "uvw"),
        (["encoding", "categories", 0, "levels"], ["w", "v", "u"]),
        (["encoding", "missing_words"], "ab"),
        (["encoding", "date_formats"], {}),
        (["estimator", "fitted", "loss_curve_"], None),
        (["estimator", "fitted", "best_loss_"], 10**400),
        (["estimator", "fitted", "feature_names_in_"], {"$": "objects", "shape": [1], "text": False, "values": ["x"]}),
        (["estimator", "fitted", "feature_names_in_"], {"$": "objects", "shape": [1], "text": False, "values": [[]]}),
        (["estimator", "optimizer", "items", 1, 1, "items", 0], "sometimes"),
        (["estimator", "optimizer", "items", 1, 1, "items", 1], -1.0),
        (["estimator", "optimizer", "items", 1, 1, "items", 2], {"$": "float", "value": "nan"}),
        (["estimator", "optimizer", "items", 1, 1, "items", 3], 0),
        (["estimator", "optimizer", "items", 2, 1], {"$": "float", "value": "inf"}),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path, content, keys, to):
    values, arrays = parts(content)
    load_again = to_bytes(arrays, {FORMAT: sealed(values, arrays)})
    (tmp_path / "fine").write_bytes(load_again)
    assert isinstance(load(tmp_path / "fine"), fb.TableClassifier)  # so that it is the change that is refused
    assert "damaged" in refused(
        tmp_path / "m.model", to_bytes(arrays, {FORMAT: sealed(changed(values, *keys, to=to), arrays)})
    )


@pytest.mark.parametrize("name", ALWAYS_FITTED)
def test_what_every_fit_leaves_is_in_the_file(tmp_path, content, name):
    values, arrays = parts(content)
    del values["estimator"]["fitted"][name]
    message = refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: sealed(values, arrays)}))
    assert name in message or "nothing names" in message


@pytest.mark.parametrize(
    ("columns", "fine"), [("abc", True), ("ab", False), ("aab", False), ("", False), ([1, 2, 3], False)]
)
def test_names_of_features_are_those_of_the_columns(tmp_path, columns, fine):
    path = tmp_path / "m.model"
    save(fb.LogisticRegression().fit(X, CODES), path)
    values, arrays = parts(path.read_bytes())
    names = {"$": "objects", "shape": [len(columns)], "text": False, "values": list(columns)}
    values["estimator"]["fitted"]["feature_names_in_"] = names
    file = to_bytes(arrays, {FORMAT: sealed(values, arrays)})
    if fine:
        path.write_bytes(file)
        assert load(path).feature_names_in_.tolist() == list(columns)
    else:
        assert "feature_names_in_" in refused(path, file)


def test_json_says_each_thing_once_and_has_numbers_alone(tmp_path, content):
    values, arrays = parts(content)
    text = sealed(values, arrays)
    twice = text.replace('"kind": "table"', '"kind": "table", "kind": "table"')  # its checksum does not see it
    assert twice != text
    assert "has a name twice" in refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: twice}))
    for word, number in (("NaN", math.nan), ("-Infinity", -math.inf)):
        wrong = changed(values, "record", to={"seconds": number})
        text = json.dumps({**wrong, "sha256": model_file._checksum(wrong, arrays)})
        assert f"{word} is no number" in refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: text}))


def test_arrays_that_cannot_be_are_refused(tmp_path, content):
    values, arrays = parts(content)
    first = next(name for name in arrays if name.startswith("coefs_"))
    for array in (np.full_like(arrays[first], np.nan), arrays[first][:-1], arrays[first].astype(int)):
        edited = {**arrays, first: array}
        assert "damaged" in refused(tmp_path / "m.model", to_bytes(edited, {FORMAT: sealed(values, edited)}))


def test_json_that_is_too_deep_is_refused(tmp_path, content):
    _, arrays = parts(content)
    deep = '{"format_version": 1, "kind": ' + "[" * 100_000 + "]" * 100_000 + "}"
    assert "damaged" in refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: deep}))


def test_numbers_of_an_encoding_that_cannot_be_are_refused(tmp_path, content):
    values, arrays = parts(content)
    for name, wrong in (("encoding.mean", np.nan), ("encoding.scale", -1.0), ("encoding.scale", np.inf)):
        changed_arrays = {**arrays, name: np.full_like(arrays[name], wrong)}
        message = refused(tmp_path / "m.model", to_bytes(changed_arrays, {FORMAT: sealed(values, changed_arrays)}))
        assert "damaged" in message, name


def test_each_array_is_named_once_and_each_is_named(tmp_path, content):
    values, arrays = parts(content)
    more = {**arrays, "more": np.zeros(3)}
    assert "that nothing names" in refused(tmp_path / "m.model", to_bytes(more, {FORMAT: sealed(values, more)}))
    twice = copy.deepcopy(values)
    coefs = twice["estimator"]["fitted"]["coefs_"]
    coefs[1] = coefs[0]
    assert "named twice" in refused(tmp_path / "m.model", to_bytes(arrays, {FORMAT: sealed(twice, arrays)}))


@pytest.fixture
def seeded(tmp_path):
    """A model whose ``random_state`` is a generator, as JSON and arrays."""
    model = fb.MLPClassifier((4,), max_iter=2, random_state=np.random.RandomState(5)).fit(X, CODES)
    save(model, tmp_path / "seeded.model")
    return parts((tmp_path / "seeded.model").read_bytes())


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("pos", -1),
        ("pos", 625),
        ("pos", 1.5),
        ("pos", True),
        ("has_gauss", 2),
        ("gauss", {"$": "float", "value": "nan"}),
    ],
)
def test_a_generators_state_is_looked_at_before_numpy_gets_it(tmp_path, seeded, name, to):
    values, arrays = seeded

    def put(packed):
        """Into the dictionary of the state, and that within it."""
        for pair in packed["items"]:
            if pair[0] == name:
                pair[1] = to
            elif isinstance(pair[1], dict) and pair[1].get("$") == "dict":
                put(pair[1])

    put(values["estimator"]["params"]["random_state"]["state"])
    path = tmp_path / "m.model"
    assert "generator's state is damaged" in refused(path, to_bytes(arrays, {FORMAT: sealed(values, arrays)}))


def test_a_generators_key_has_its_length_and_kind(tmp_path, seeded):
    values, arrays = seeded
    key = next(name for name in arrays if arrays[name].dtype == np.uint32)
    for wrong in (np.zeros(624, np.uint32), arrays[key][:600], arrays[key].astype(np.int64)):
        changed_arrays = {**arrays, key: wrong}
        message = refused(tmp_path / "m.model", to_bytes(changed_arrays, {FORMAT: sealed(values, changed_arrays)}))
        assert "generator's state is damaged" in message


def test_one_long_label_takes_no_memory_for_the_others(tmp_path):
    """An array of texts has each as long as the longest."""
    labels = np.array([f"c{i:04}" for i in range(1000)])
    model = fb.MLPClassifier((2,), max_iter=1).fit(np.repeat(X[:20], 50, axis=0), labels)
    model.classes_ = np.array([*labels[:-1], "long " * 2000], dtype=object)
    save(model, tmp_path / "m.model")
    values, arrays = parts((tmp_path / "m.model").read_bytes())
    values["estimator"]["fitted"]["classes_"]["text"] = True  # 40 MB, where the file has 50 kB
    (tmp_path / "m.model").write_bytes(to_bytes(arrays, {FORMAT: sealed(values, arrays)}))
    back = load(tmp_path / "m.model")
    assert back.classes_.dtype == object
    assert back.classes_.tolist() == model.classes_.tolist()


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[ns]"),
        np.array(["2020-01-01", "2020-01-02", "2020-01-03"], dtype="datetime64[D]"),
        np.array([1, 2, 3], dtype="timedelta64[ns]"),
        np.array([1, 2, 3], dtype=np.longdouble),
    ],
)
def test_labels_that_would_come_back_as_others_are_refused(tmp_path, labels):
    model = fb.MLPClassifier((3,), max_iter=2).fit(X, CODES)
    model.classes_ = labels
    with pytest.raises(InputError, match=r"classes_ is of (datetime64|timedelta64|float128|longdouble|float96)"):
        save(model, tmp_path / "m.model")
    assert os.listdir(tmp_path) == []


def test_a_number_is_no_path(tmp_path):
    with open(tmp_path / "x", "w") as file, pytest.raises(InputError, match="given by its path; got int"):
        load(file.fileno())
    with pytest.raises(InputError, match="got NoneType"):
        load(None)


def test_a_model_of_a_gpu_loads_and_predicts_without_one(tmp_path):
    model = fb.MLPClassifier((3,), max_iter=2, device="cpu").fit(X, CODES)
    model.device = "cuda:77"
    save(model, tmp_path / "m.model")
    with pytest.warns(UserWarning, match="saved with device='cuda:77', and 'auto' takes its place"):
        back = load(tmp_path / "m.model")
    assert back.device == "auto"
    assert same(back.predict(X), model.set_params(device="cpu").predict(X))


def test_a_file_that_memory_does_not_suffice_for_is_told_as_that(tmp_path, content, monkeypatch):
    from fullbatch.saving import model_file

    def no_memory(*_):
        raise MemoryError

    (tmp_path / "m.model").write_bytes(content)
    monkeypatch.setattr(model_file, "_checksum", no_memory)
    with pytest.raises(ModelFileError, match="not enough memory to load it"):
        load(tmp_path / "m.model")
