"""Save and load a model: one safetensors file of plain arrays, whose metadata holds the rest as JSON.

Loading runs no code: there is no pickle, the class is looked up in a fixed table, its attributes too, and
what the file holds is checked before it is used. The metadata's one entry, "fullbatch-model", is JSON:

    format_version   4; a higher one was written by a newer fullbatch; in 1 the optimizer's fields had other names, in 2
                     a table's encoding had no parts of dates, no formats of dates and no decimal mark, in the first
                     files of 3 no bins, no logarithm of the target and no threshold
    fullbatch        the version that wrote the file
    kind             "estimator", "table", or "network": the layers alone, in the checkpoint of a function's training
    estimator        class, params, fitted attributes and optimizer, packed as plain_values.py says
    encoding         of a table: TableEncoding.to_dict
    params           of a table: those of its TableClassifier or TableRegressor, packed; earlier files lack them
    threshold        of a table of two classes: that by which it decides; null or absent: the more probable class
    record           of a table: how the model was made (``record_`` of its estimator), if that is known
    layers           of a network: W and b of each
    training         of a checkpoint: how its training goes on, as training_state.py says

Of a table, "estimator" is what trained its network on the encoded rows.

The version is raised where a reader of the one before would predict something else, or fail without saying why. What
such a reader can do without is added without that.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fullbatch.core.activations import SCIKIT_LEARNS
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten
from fullbatch.errors import DeviceError, InputError, ModelFileError
from fullbatch.machine import places
from fullbatch.machine.plain_values import Arrays, from_json, is_count, json_ready, pack, plain, require, unpack
from fullbatch.machine.safe_output import open_regular, path_of, replacing
from fullbatch.machine.threads import of_jobs
from fullbatch.saving import safetensors_file
from fullbatch.saving.training_state import VERSION, LogName, Once, is_rate, schedule_of, unpack_moment
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.record import OF_THE_MACHINE
from fullbatch.training.checkpoints import Moment
from fullbatch.training.optimizers import OPTIMIZERS
from fullbatch.version import __version__

if TYPE_CHECKING:
    from fullbatch.tables.network import TableNetwork

FORMAT = "fullbatch-model"
FORMAT_VERSION = 4
OF_AN_OPTIMIZER = ("name", "schedule", "learning_rate", "epoch", "updates", "arrays")  # between two partial_fit
MOST_HEADER = 100_000_000  # bytes: safetensors' own limit
PathLike = str | os.PathLike[str]


# --- Save ---------------------------------------------------------------------------------------------------


def save(model: Any, path: PathLike) -> None:
    """Write a fitted estimator to ``path``: under a temporary name first, then renamed.

    Parameters
    ----------
    model : estimator
        A fitted MLPClassifier, MLPRegressor, LogisticRegression, TableClassifier or TableRegressor.
    path : str or path
        A file that is there is replaced.

    Raises
    ------
    InputError
        For an object that cannot be saved (another type, not fitted, a user's own activation functions) and for a path
        that cannot be written; a file that was there before is then still whole.

    Notes
    -----
    Device arrays are copied to the host, so a model fitted on a GPU loads on a machine without one. One of a table is
    saved without ``device``, ``device_memory`` and ``n_jobs``, so it is the same file whatever the number of threads.

    Examples
    --------
    >>> import fullbatch as fb, tempfile
    >>> model = fb.LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     fb.save(model, file.name)
    ...     fb.load(file.name).predict([[2.0]]).tolist()
    ['yes']
    """
    arrays: Arrays = {}
    write(path, content_of(model, arrays), arrays, "the model")


def content_of(model: Any, arrays: Arrays) -> dict[str, Any]:
    """A model as JSON; its arrays go to ``arrays``."""
    if type(model) in _of_tables().values():
        return _pack_table(model, arrays)
    return {"kind": "estimator", "estimator": _pack_estimator(model, arrays)}


def content_of_layers(layers: Iterable[Layer], arrays: Arrays) -> dict[str, Any]:
    """The parameters of a function's training as JSON; its arrays go to ``arrays``."""
    return {"kind": "network", "layers": pack([list(layer) for layer in layers], "layers", arrays)}


def write(path: PathLike, content: dict[str, Any], arrays: Arrays, what: str) -> None:
    """Write a file of this format, in the place of another. ``what`` names it in an error."""
    content = _of_this_version(content)
    # One entry: safetensors writes several in an order of chance, and the same model is to be the same bytes.
    metadata = {FORMAT: sealed(content, arrays)}
    with replacing(path, what) as file:
        safetensors_file.write(file, arrays, metadata)


def _of_this_version(content: dict[str, Any]) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, "fullbatch": __version__, **content}


def checksum_of(model: Any) -> str:
    """The checksum in the file that ``save`` writes of a fitted estimator. InputError as there."""
    arrays: Arrays = {}
    return _checksum(_of_this_version(content_of(model, arrays)), arrays)


def checksum_in(path: PathLike) -> str:
    """The checksum in a model file. ModelFileError as ``load``."""
    return str(read(path)[0]["sha256"])


def sealed(content: dict[str, Any], arrays: Arrays) -> str:
    """The content as JSON, with a checksum of itself and of the arrays: a flipped bit in a weight is no error else."""
    return json.dumps({**content, "sha256": _checksum(content, arrays)}, allow_nan=False)


def _checksum(content: dict[str, Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(json.dumps({**content, "sha256": None}, sort_keys=True).encode())
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _pack_table(model: Any, arrays: Arrays) -> dict[str, Any]:
    _require_fitted(model, "network_")
    encoding, encoding_arrays = model.network_.encoding.to_dict()
    arrays.update({f"encoding.{name}": plain(array) for name, array in encoding_arrays.items()})
    params = {name: value for name, value in model.get_params(deep=False).items() if name not in OF_THE_MACHINE}
    return {
        "kind": "table",
        "encoding": encoding,
        "params": {name: pack(value, f"params.{name}", arrays) for name, value in params.items()},
        "threshold": model.network_.threshold,
        **({"record": json_ready(model.record_)} if model.record_ else {}),
        "estimator": _pack_estimator(model.estimator_, arrays, leave_out=OF_THE_MACHINE),
    }


def _require_fitted(model: Any, attribute: str) -> None:
    if not hasattr(model, attribute):
        raise InputError(f"this {type(model).__name__} is not fitted, so there is nothing to save; call fit first.")


def _pack_estimator(estimator: Any, arrays: Arrays, leave_out: Collection[str] = ()) -> dict[str, Any]:
    name = type(estimator).__name__
    if type(estimator) is not _estimators().get(name):
        raise InputError(
            f"an object of type {name} cannot be saved; save a fitted {', '.join([*_estimators(), *_of_tables()])}."
        )
    _require_fitted(estimator, "coefs_")
    fitted = {key: getattr(estimator, key) for key in FITTED if key in vars(estimator)}
    params = estimator.get_params(deep=False)
    state = vars(estimator).get("_optimizer")
    return {
        "class": name,
        "params": {key: pack(value, key, arrays) for key, value in params.items() if key not in leave_out},
        "fitted": {key: pack(value, key, arrays) for key, value in fitted.items()},
        "optimizer": None if state is None else pack(_optimizer_of(state), "optimizer", arrays),
    }


def _estimators() -> dict[str, type[Any]]:
    from fullbatch import estimators

    kinds = (estimators.MLPClassifier, estimators.MLPRegressor, estimators.LogisticRegression)
    return {kind.__name__: kind for kind in kinds}


def _of_tables() -> dict[str, type[Any]]:
    from fullbatch.tables.estimators import TableClassifier, TableRegressor

    return {"TableClassifier": TableClassifier, "TableRegressor": TableRegressor}


# --- Load ---------------------------------------------------------------------------------------------------


def load(path: PathLike) -> Any:
    """The fitted estimator that ``save``, or the command, wrote: of a table a TableClassifier or a TableRegressor.

    Parameters
    ----------
    path : str or path
        A model file, or a ``Checkpoint``'s.

    Returns
    -------
    estimator
        Its parameters are those of its training; a table's model has the default ``device``, ``device_memory`` and
        ``n_jobs``, which its file does not keep. No code of the file is run.
        Of a ``Checkpoint`` it is the model so far, and of that of a function's training its parameters, a tuple of
        Layers.

    Raises
    ------
    ModelFileError
        On one line, for a file that is missing, truncated, damaged, foreign or of a newer version.

    Examples
    --------
    >>> import fullbatch as fb, tempfile
    >>> model = fb.LogisticRegression().fit([[0.0], [1.0]], ["no", "yes"])
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     fb.save(model, file.name)
    ...     fb.load(file.name)
    LogisticRegression()
    """
    content, arrays = read(path)
    if "training" in content:
        kept = unpack_checkpoint(path, content, arrays)
        return kept.model
    with told_as_damage(path):
        once = Once(arrays)
        model = _model(content, once)
        require(not once, "it holds arrays that nothing names")
        return model


class Kept(NamedTuple):
    """What a checkpoint holds. model : as ``load`` gives it;  log : of L-BFGS's evaluations, if they are kept"""

    model: Any
    moment: Moment
    log: LogName | None


def unpack_checkpoint(path: PathLike, content: Any, found: Arrays) -> Kept:
    """What is in a file that was read. ModelFileError for what is no checkpoint, damaged, or of a newer version."""
    if "training" not in content:
        raise ModelFileError(
            f"{path} holds a model and no checkpoint of its training, which cannot go on from there; fullbatch.load "
            "reads it."
        )
    with told_as_damage(path):
        version = content["training"]["version"]
        require(is_count(version) and version > 0, "the version of its training is none")
    if version > VERSION:
        raise ModelFileError(
            f"{path} is a checkpoint that a newer fullbatch wrote ({str(content.get('fullbatch'))[:20]}, version "
            f"{version}); this is {__version__}, which reads versions up to {VERSION}: pip install --upgrade fullbatch."
        )
    with told_as_damage(path):
        arrays = Once(found)
        model = _model(content, arrays)
        own = getattr(model, "estimator_", model)  # of a table's
        moment, log = unpack_moment(content["training"], arrays, theta_of(own), lambda: own)
        require(not arrays, "it holds arrays that nothing names")
        state = moment.state
        if not isinstance(own, tuple):
            require(state.optimizer == own.solver, "the training is not of the estimator's solver")
            if own.solver in OPTIMIZERS:
                own._optimizer = state.of_the_optimizer()
        return Kept(model, moment, log)


def theta_of(model: Any) -> np.ndarray:
    """The parameters of an estimator, or of a tuple of Layers, as one vector."""
    layers = model
    if not isinstance(model, tuple):
        layers = tuple(Layer(W.T, b) for W, b in zip(model.coefs_, model.intercepts_, strict=True))
    return np.asarray(flatten(layers))


def _model(content: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The model of a file: ValueError and its like for what does not fit."""
    kind = content["kind"]
    if kind == "network":
        return _layers(unpack(content["layers"], arrays))
    if content["format_version"] == 1:
        _from_version_1(content["estimator"])
    estimator = _unpack_estimator(content["estimator"], arrays)
    if kind == "estimator":
        return estimator
    require(kind == "table", f"it holds a model of kind {str(kind)[:40]!r}")
    encoding = _encoding_for(vars(estimator), content["encoding"], arrays)
    return _of_table(content, encoding, estimator, arrays)


def _of_table(
    content: dict[str, Any], encoding: TableEncoding, estimator: Any, arrays: Mapping[str, np.ndarray]
) -> Any:
    """The estimator of a table, fitted: it holds the one that trained the network."""
    kind = _of_tables()["TableClassifier" if encoding.task == "classify" else "TableRegressor"]
    if "params" in content:
        params = {name: unpack(value, arrays) for name, value in content["params"].items()}
        require(not set(params) & set(OF_THE_MACHINE), "params has what belongs to a machine")
        known = _table_params(estimator, encoding)
        for name in ("hidden", "activation", "solver", "dtype"):
            mine, theirs = (list(one) if isinstance(one, tuple) else one for one in (params[name], known[name]))
            by_default = name == "hidden" and mine is None
            require(by_default or mine == theirs, f"{name} of params is not that of the training")
    else:
        params = _table_params(estimator, encoding)
    model = kind(**params)
    model._validate_params()
    model._describe(encoding, _record(content.get("record")))
    model._take(encoding, estimator, _threshold(content, encoding))
    model.network_.predict({name: [None] for name in encoding.feature_names})  # a row, to see that all parts fit
    return model


def _table_params(estimator: Any, encoding: TableEncoding) -> dict[str, Any]:
    """The parameters of a table's estimator, as far as that which trained its network knows them."""
    names = {
        "hidden": "hidden_layer_sizes", "activation": "activation", "solver": "solver", "epochs": "max_iter",
        "batch_size": "batch_size", "learning_rate": "learning_rate_init", "l2": "alpha", "precision": "precision",
        "random_state": "random_state", "dropout": "dropout", "retrain": "retrain",
    }  # fmt: skip
    return {"dtype": encoding.dtype, **{name: getattr(estimator, theirs) for name, theirs in names.items()}}


def _layers(values: Any) -> tuple[Layer, ...]:
    require(isinstance(values, list) and len(values) > 0, "it holds no layers")
    layers = tuple(Layer(W, b) for W, b in values)
    require(all(_floats(2)(array) for layer in layers for array in layer), "layers are not what they should be")
    require(len({array.dtype for layer in layers for array in layer}) == 1, "layers differ in dtype")
    require(all(b.shape == (len(W), 1) for W, b in layers), "biases do not fit the layers")
    inputs = [W.shape[1] for W, _ in layers[1:]]
    require(inputs == [len(W) for W, _ in layers[:-1]], "layers do not fit")
    return layers


def load_network(path: PathLike) -> TableNetwork:
    """The model of a table that ``save`` wrote, as far as predicting goes: scikit-learn, slow to import, is not needed.

    Raises ModelFileError as ``load`` does, and for a file that holds a bare estimator.
    """
    from fullbatch.tables.network import TableNetwork

    content, arrays = read(path)
    with told_as_damage(path):
        kind = content["kind"]
        estimator: Any = {"class": "network"} if kind == "network" else content["estimator"]
        name = str(estimator["class"])[:40]
    if kind in ("estimator", "network"):
        raise ModelFileError(
            f"{path} holds a bare {name}, which knows nothing of columns; use fullbatch.load in Python, or a model "
            "file that `fullbatch train` wrote."
        )
    with told_as_damage(path):
        require(kind == "table", f"it holds a model of kind {kind!r}")
        fitted = _fitted(estimator, arrays)
        encoding = _encoding_for(fitted, content["encoding"], arrays)
        params = {name: unpack(estimator["params"][name], arrays) for name in ("hidden_layer_sizes", "activation")}
        _check_layers(fitted, _sizes_of(params["hidden_layer_sizes"]), encoding.task == "classify")
        hidden, output = (_by_our_names(name) for name in (params["activation"], fitted["out_activation_"]))
        # A classifier has no such parameters, nor has the loss of a regressor that an earlier version wrote a quantile.
        loss = {name: unpack(estimator["params"].get(name), arrays) for name in ("loss", "quantile")}
        return TableNetwork.of_layers(
            encoding, fitted["coefs_"], fitted["intercepts_"], hidden, output, **loss,
            record=_record(content.get("record")), threshold=_threshold(content, encoding),
        )  # fmt: skip


@contextmanager
def told_as_damage(path: PathLike) -> Iterator[None]:
    """What fails within is a ModelFileError, on one line: the file does not hold what it should."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(_damaged(path, error)) from error


def _sizes_of(hidden: Any) -> list[int]:
    sizes = list(hidden) if isinstance(hidden, (list, tuple)) else [hidden]
    require(all(is_count(size) and size > 0 for size in sizes), "hidden_layer_sizes are not counts")
    return sizes


def _by_our_names(activation: Any) -> Any:
    if isinstance(activation, str):
        return SCIKIT_LEARNS.get(activation, activation)
    return [_by_our_names(one) for one in activation]


def _encoding_for(fitted: dict[str, Any], meta: Any, arrays: Mapping[str, np.ndarray]) -> TableEncoding:
    """The encoding of a table, after it was seen to fit the network's fitted attributes."""
    prefix = "encoding."
    own = {name.removeprefix(prefix): arrays[name] for name in list(arrays) if name.startswith(prefix)}
    encoding = TableEncoding.from_dict(meta, own)
    classes = len(encoding.classes)
    outputs = 1 if encoding.task == "regress" or classes == 2 else classes
    require(encoding.dtype == fitted["coefs_"][0].dtype.name, "the table's dtype is not the network's")
    require(("classes_" in fitted) == (encoding.task == "classify"), "the task and the estimator differ")
    if encoding.task == "classify":
        codes = fitted["classes_"]  # The estimator learned the classes' indices.
        require(codes.dtype.kind in "iu" and np.array_equal(codes, np.arange(classes)), "classes differ")
    found = fitted["n_features_in_"], fitted["n_outputs_"]
    require(
        (encoding.n, outputs) == found,
        f"the table has {encoding.n} features and {outputs} outputs, the network {found[0]} and {found[1]}",
    )
    return encoding


def _threshold(content: dict[str, Any], encoding: TableEncoding) -> float | None:
    """That by which a model of two classes decides; None in files that have none."""
    value = content.get("threshold")
    fits = value is None or (_is_number(value) and 0 < value < 1 and len(encoding.classes) == 2)
    require(fits, "its threshold is no number between 0 and 1, or there are not two classes")
    return None if value is None else float(value)


def _record(content: Any) -> dict[str, Any]:
    """The record of a model's making; {} in files that have none."""
    require(content is None or isinstance(content, dict), "its record is no dictionary")
    report = (content or {}).get("report", {})
    columns = report.get("columns", []) if isinstance(report, dict) else None
    named = isinstance(columns, list) and all(
        isinstance(column, dict) and isinstance(column.get("name"), str) for column in columns
    )
    require(named, "its record has columns without a name")
    return content or {}


def _unpack_estimator(content: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The estimator, after every attribute was checked: ValueError and its like for what does not fit."""
    kind = _estimators()[content["class"]]
    estimator = kind(**{name: unpack(value, arrays) for name, value in content["params"].items()})
    estimator._validate_params()
    of_jobs(estimator.n_jobs)
    fitted = _fitted(content, arrays)
    vars(estimator).update(fitted)
    _check_layers(fitted, estimator._hidden_sizes(), hasattr(estimator, "predict_proba"))
    output = SCIKIT_LEARNS.get(estimator.out_activation_, estimator.out_activation_)
    Network(
        [estimator.n_features_in_, *estimator._hidden_sizes(), estimator.n_outputs_], estimator._activation(), output
    )
    estimator.device = _device_there(estimator.device)
    if content["optimizer"] is not None:
        estimator._optimizer = _state(unpack(content["optimizer"], arrays), estimator)
    return estimator


def _device_there(device: str) -> str:
    """The device, or "auto", with a warning, where it is a GPU that is not to be had."""
    places.check_device(device)
    try:
        places.place(device)
    except DeviceError as error:
        warnings.warn(f"the model was saved with device={device!r}, and 'auto' takes its place: {error}", stacklevel=4)
        return "auto"
    return device


def _fitted(content: Any, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The fitted attributes by name, each of which is what it should be."""
    fitted = {name: unpack(packed, arrays) for name, packed in content["fitted"].items()}
    for name, value in fitted.items():
        require(name in FITTED and FITTED[name](value), f"{name[:40]} is not what it should be")
    missing = [name for name in ALWAYS_FITTED if name not in fitted]
    require(not missing, f"{', '.join(missing)} is missing")
    columns = fitted.get("feature_names_in_")
    if columns is not None:
        named = all(isinstance(name, str) for name in columns) and len(set(columns)) == len(columns)
        require(named and len(columns) == fitted["n_features_in_"], "feature_names_in_ are not the columns' names")
    return fitted


def _check_layers(fitted: dict[str, Any], hidden: list[int], classifies: bool) -> None:
    """The layers follow one upon another, and fit the number of features and what comes out."""
    coefs, intercepts = fitted["coefs_"], fitted["intercepts_"]
    sizes = [coefs[0].shape[0], *(W.shape[1] for W in coefs)]
    require(all(W.shape[0] == size for W, size in zip(coefs, sizes[:-1], strict=True)), "layers do not fit")
    require([b.shape[0] for b in intercepts] == sizes[1:], "biases do not fit the layers")
    require(len({array.dtype for array in (*coefs, *intercepts)}) == 1, "layers differ in dtype")
    require(sizes[1:-1] == hidden, "hidden_layer_sizes differ from the layers")
    found = (fitted["n_features_in_"], fitted["n_outputs_"], fitted["n_layers_"])
    require(
        found == (sizes[0], sizes[-1], len(sizes)), "n_features_in_, n_outputs_ or n_layers_ differ from the layers"
    )
    output, classes = fitted["out_activation_"], fitted.get("classes_")
    if classifies:
        require(output in ("logistic", "softmax") and classes is not None, "a classifier needs classes")
        k = 0 if classes is None else len(classes)
        one_unit = output == "logistic" and sizes[-1] == 1 and 0 < k <= 2
        require(one_unit or k == sizes[-1] > 1, f"{k} classes do not fit {sizes[-1]} outputs")
    else:
        require(output in ("identity", "exp") and classes is None, "a regressor has no classes")


def _optimizer_of(state: Any) -> dict[str, Any]:
    """What a call of ``partial_fit`` goes on from, beside the fitted attributes."""
    return {
        "name": state.optimizer, "schedule": tuple(state.schedule), "learning_rate": state.learning_rate,
        "epoch": state.epoch, "updates": state.updates, "arrays": state.arrays,
    }  # fmt: skip


def _state(values: dict[str, Any], estimator: Any) -> Any:
    """``_optimizer_of``, undone: ValueError and its like for what does not fit the estimator."""
    from fullbatch.training.state import TrainingState

    name, schedule, rate, epoch, updates, kept = map(values.__getitem__, OF_AN_OPTIMIZER)
    schedule = schedule_of(schedule)
    require(_is_text(name) and is_count(epoch) and is_count(updates) and is_rate(rate), "optimizer is damaged")
    size = sum(array.size for array in (*estimator.coefs_, *estimator.intercepts_))
    fits = name in OPTIMIZERS and isinstance(kept, tuple) and len(kept) == OPTIMIZERS[name].keeps
    fits = fits and all(_floats(1)(array) and array.size == size for array in kept)
    require(fits, "optimizer does not fit the layers")
    return TrainingState(None, name, schedule, kept, updates, epoch, learning_rate=rate)


def _from_version_1(content: Any) -> None:
    """Bring a file of format 1 into today's form, in which an optimiser's arrays are a tuple and t is ``updates``."""
    packed = content["optimizer"]
    if packed is None:
        return
    old = dict(packed["items"])
    if old["state"] is None:  # it had not learned yet: partial_fit begins anew
        content["optimizer"] = None
        return
    kept, updates = old["state"], 0
    if old["solver"] == "adam":
        updates, *means = kept["items"]
        kept = {"$": "tuple", "items": means}
    elif old["solver"] == "sgd":
        kept = {"$": "tuple", "items": [kept]}
    epoch = len(content["fitted"].get("loss_curve_") or [])
    schedule = {"$": "tuple", "items": [old["schedule"], old["initial"], 0.5, 1]}  # partial_fit sets the last two
    values = (old["solver"], schedule, old["learning_rate"], epoch, updates, kept)
    items = [list(pair) for pair in zip(OF_AN_OPTIMIZER, values, strict=True)]
    content["optimizer"] = {"$": "dict", "items": items}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_number_or_none(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_number, value))


def _is_numbers_or_none(value: Any) -> bool:
    return value is None or _is_numbers(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_counts(value: Any) -> bool:
    return is_count(value) or (_is_vector(value) and value.dtype.kind in "iu")  # one for each problem solved


def _is_vector(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim == 1


def _are_classes(value: Any) -> bool:
    return _is_vector(value) and value.tolist() == sorted(set(value.tolist()))


def _floats(ndim: int) -> Callable[[Any], bool]:
    """A test for a finite array of float32 or float64 with so many axes."""

    def test(value: Any) -> bool:
        return (
            isinstance(value, np.ndarray)
            and value.ndim == ndim
            and value.dtype in (np.float32, np.float64)
            and bool(np.isfinite(value).all())
        )

    return test


def _list_of(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(test, value))


def _is_retraining(value: Any) -> bool:
    return value is None or (isinstance(value, list) and len(value) == 2 and all(map(is_count, value)))


# The fitted attributes that a file may hold, each with a test of its value.
FITTED: dict[str, Callable[[Any], bool]] = {
    "coefs_": _list_of(_floats(2)),
    "intercepts_": _list_of(_floats(1)),
    "classes_": _are_classes,
    "feature_names_in_": _is_vector,
    "n_features_in_": is_count,
    "n_outputs_": is_count,
    "n_layers_": is_count,
    "n_iter_": _is_counts,
    "retraining_": _is_retraining,
    "t_": is_count,
    "_no_improvement_count": is_count,
    "out_activation_": _is_text,
    "device_": _is_text,
    "step_": _is_text,
    "precision_": _is_text,
    "note_": _is_text,
    "loss_": _is_number,
    "best_loss_": _is_number_or_none,
    "best_validation_score_": _is_number_or_none,
    "loss_curve_": _is_numbers,
    "validation_scores_": _is_numbers_or_none,
    "validation_costs_": _is_numbers_or_none,
}
# Those that every fit leaves, and every moment of a training.
ALWAYS_FITTED = (
    "coefs_", "intercepts_", "n_features_in_", "n_outputs_", "n_layers_", "out_activation_", "n_iter_", "t_",
    "_no_improvement_count", "loss_curve_", "best_loss_",
)  # fmt: skip


def read(path: PathLike) -> tuple[dict[str, Any], Arrays]:
    """The content and the arrays of a file of this format and of no newer version."""
    from safetensors import SafetensorError, safe_open

    path = path_of(path, "a model file")
    try:
        _check_header(path)
        with safe_open(path, framework="numpy") as file:
            content = from_json((file.metadata() or {})[FORMAT])
            _check_version(path, content)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            require(content.get("sha256") == _checksum(content, arrays), "its checksum is not that of its content")
            return content, arrays
    except FileNotFoundError:
        raise ModelFileError(f"no such model file: {path}; `fullbatch train DATA --model {path}` makes one.") from None
    except IsADirectoryError:
        raise ModelFileError(f"{path} is a folder, not a model file; give the file in it.") from None
    except OSError as error:
        raise ModelFileError(f"cannot read the model file {path}: {error.strerror or error}.") from error
    except MemoryError as error:
        size = os.path.getsize(path)
        raise ModelFileError(f"{path} has {size:,} bytes, and there is not enough memory to load it.") from error
    except (SafetensorError, LookupError, RecursionError, TypeError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(_damaged(path, error)) from error


def _damaged(path: PathLike, error: Exception) -> str:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return f"{path} is a truncated or damaged model file ({reason}); restore it from a copy or train the model again."


def _check_header(path: PathLike) -> None:
    """Tell a file that was never a model from a damaged one. Raises OSError as ``open`` does."""
    header = _header(path)
    if not header:
        raise ModelFileError(f"{path} is empty, not a model file; train the model again.")
    if header[8:9] != b"{":
        raise ModelFileError(f"{path} is not a model file; give one that `fullbatch train --model` wrote.")
    if FORMAT.encode() not in header and len(header) == 8 + _length(header):
        raise ModelFileError(
            f"{path} is a safetensors file of another program; give one that `fullbatch train --model` wrote."
        )


def _header(path: PathLike) -> bytes:
    """The start of a safetensors file: its header's length in 8 bytes, and what there is of the header."""
    with os.fdopen(open_regular(path), "rb") as file:
        start = file.read(9)
        if start[8:9] != b"{":
            return start
        # No more than there is: to read sets so much memory aside beforehand, and a length can be made up.
        left = os.fstat(file.fileno()).st_size - len(start)
        return start + file.read(max(0, min(_length(start) - 1, MOST_HEADER, left)))


def _length(header: bytes) -> int:
    return int.from_bytes(header[:8], "little")


def _check_version(path: PathLike, content: Any) -> None:
    found = content["format_version"]
    if not is_count(found):
        raise ValueError(f"its format version is {str(found)[:20]!r}")
    if found > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by a newer fullbatch ({str(content.get('fullbatch'))[:20]}, format {found}); this is "
            f"{__version__}, which reads formats up to {FORMAT_VERSION}: pip install --upgrade fullbatch."
        )


def check_replaceable(path: PathLike) -> None:
    """Refuse to put a model where another kind of file is: it may be somebody's data. InputError."""
    try:
        header = _header(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} exists and cannot be read: {error.strerror or error}; give another name.") from error
    if header and FORMAT.encode() not in header:
        raise InputError(f"{path} exists and is not a model file; give another name for the model, or remove it.")
