"""What the estimators of tables do with a store: its encoding, the record of the model's making, scores in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.sources.store_columns import examples_of
from fullbatch.sources.store_parts import class_totals
from fullbatch.sources.stored import Store
from fullbatch.tables.fit import Settings
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.quantiles import quantile_of
from fullbatch.tables.raw import listed
from fullbatch.tables.running_scores import ClassScores, NumberScores
from fullbatch.tables.store import encoding_of

ROWS = 2**16  # that are scored at a time, as of files in pieces


def check_parameters(estimator: Any, store: Store, given: dict[str, Any], default: Settings) -> None:
    """InputError for whatever was decided when the store was made, and is asked for otherwise now."""
    if getattr(store, "made_for_it", False):  # by these very parameters, of a table on a cluster
        return
    for name, value in given.items():
        if value is not None and (name != "target" or value != store.target):
            raise InputError(f"{name} is the store's own, and is not given beside it; its target is {store.target!r}.")
    of_the_store = {
        "categorical": (), "numeric": (), "max_levels": store.content["max_levels"], "dtype": store.dtype.name,
        "validation": store.content["validation"],
    }  # fmt: skip
    usual = {"categorical": (), "numeric": (), **{name: getattr(default, name) for name in tuple(of_the_store)[2:]}}
    for name, own in of_the_store.items():
        asked = getattr(estimator, name)
        asked = tuple(asked) if isinstance(own, tuple) else asked
        if asked not in (own, usual[name]):
            raise InputError(
                f"{name}={asked!r} was decided when {store.path} was made{f' ({own!r})' if own != () else ''}; convert "
                "the table anew for another."
            )
    of_tables: dict[str, Any] = {
        "split_by": None, "group": None, "drop": (), "missing": (), "keep_missing_words": False
    }  # fmt: skip
    for name, usually in of_tables.items():
        asked = getattr(estimator, name, usually)
        if (tuple(asked) if usually == () else asked) not in (usually, store.content.get(name, usually)):
            raise InputError(f"{name}={asked!r} goes with a table, and not with a store, which was made of one.")
    made_for = {"poisson": store.content.get("loss") == "poisson", "log": bool(store.content.get("log_target"))}
    if (estimator.loss == "poisson") != made_for["poisson"] or bool(estimator.log_target) != made_for["log"]:
        asked = f"loss={estimator.loss!r}" + (", log_target=True" if estimator.log_target else "")
        raise InputError(
            f"{asked} needs a target that is scaled in another way than that of {store.path}; convert the table with "
            "these options."
        )
    if estimator._task != store.task:
        raise InputError(f"{type(estimator).__name__} cannot learn from {store.path}, which was made to {store.task}.")


def described(store: Store) -> dict[str, Any]:
    """Of the record of a model's making what the store knows."""
    content = store.content
    rows = store.train.m + store.held_out.m
    return {
        "report": report_of(store),
        "rows": store.train.m,
        "left_out": content["left_out"],
        "unseen": {},
        "weight": content.get("weight"),
        "held_out_by": content.get("held_out_by", "drawn at random"),
        "held_out_rows": store.held_out.m + sum(content.get("not_scored", {}).values()),
        "not_scored": content.get("not_scored", {}),
        "data": {
            "rows": rows + sum(content["left_out"].values()),
            "columns": len(content["columns"]),
            "crc32": store.train.checksum()[:8],
            "files": [],
            **({"held_out": content["held_out_of"]} if "held_out_of" in content else {}),
        },
    }


def report_of(store: Store) -> dict[str, Any]:
    """How the columns were understood, as ``TableReport.to_dict`` has it, of the rows to learn from."""
    content = store.content
    task = "classification" if store.task == "classify" else "regression"
    target = {
        "name": store.target, "task": store.task, "why": f"the store was made for {task}", "overrule": "",
        "classes": content["classes"],
    }  # fmt: skip
    return {"rows": store.train.m, "columns": content["columns"], "target": target, "doubts": []}


# --- Scores of the held-out rows --------------------------------------------------------------------------------------


def scores(network: TableNetwork, store: Store, metric: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the network on the held-out rows, and those of a guess that knows the training's targets alone."""
    model = of_network(network, store, metric)
    guess = ClassScores(len(store.classes), None, metric) if store.classes else NumberScores(network, metric)
    constant = _log_shares(store) if store.classes else np.full(1, _constant(network, store))
    for block in blocks_of(store):
        _, _, y, weight = store.held_out.arrays(block)
        guess.add(np.broadcast_to(constant, (len(y), *constant.shape)[: 1 + bool(store.classes)]), y, weight)
    return model.scores(), guess.scores()


def evaluate(
    network: TableNetwork, store: Store, metric: str | None = None, predictions: Predictions | None = None
) -> dict[str, Any]:
    """The scores of a network on the held-out rows of a store, which has to encode its table as the network's has it.

    predictions : gives what others make of them, as ``predictions_of`` does here

    Raises InputError for another encoding, and where no rows are held out.
    """
    check_same(network, store)
    if not store.held_out.m:
        raise InputError(f"the store {store.path} has no held-out rows to score; evaluate the table itself.")
    return dict(of_network(network, store, metric, predictions).scores())


def check_same(network: TableNetwork, store: Store) -> None:
    """InputError where a store does not encode its table as the network's has it."""
    if not network.encoding.same_as(encoding_of(store.content)):
        other = [name for name in network.encoding.feature_names if name not in store.columns]
        what = f"it lacks {listed(other)}" if other else "its columns were understood, or scaled, in another way"
        raise InputError(
            f"the store {store.path} was not made as the model's table was: {what}; evaluate the table itself."
        )


def of_network(
    network: TableNetwork, store: Store, metric: str | None, predictions: Predictions | None = None
) -> ClassScores | NumberScores:
    """What a network predicts of the held-out rows, block by block."""
    classes = len(store.classes)
    found = ClassScores(classes, network.threshold, metric) if classes else NumberScores(network, metric)
    made = predictions(network, blocks_of(store)) if predictions else predictions_of(network, store, blocks_of(store))
    for one in made:
        found.add(*one)
    return found


Block = tuple[np.ndarray, np.ndarray, np.ndarray | None]  # log-probabilities or scaled numbers, targets, weights
Predictions = Callable[[TableNetwork, Sequence[slice]], Iterable[Block]]


def blocks_of(store: Store) -> list[slice]:
    """The held-out rows, so many at a time as are scored."""
    m = store.held_out.m
    return [slice(start, min(start + ROWS, m)) for start in range(0, m, ROWS)]


def predictions_of(network: TableNetwork, store: Store, blocks: Sequence[slice]) -> Iterator[Block]:
    """What a network makes of blocks of the held-out rows."""
    make = network.log_probabilities if store.classes else network.numbers
    for block in blocks:
        found = store.held_out.arrays(block)
        yield make(examples_of(found, store.n, len(store.classes)).X), found.y, found.weight


def best_threshold(network: TableNetwork, store: Store, metric: str | None) -> float:
    """That by which the held-out rows have the highest score."""
    found = of_network(network, store, None)
    assert isinstance(found, ClassScores)
    return found.best_threshold(metric)


def _targets(store: Store) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The targets and the weights of the rows to learn from."""
    part = store.train
    read_y = part.reader("y")
    read_weight = part.reader("weight") if "weight" in part.kinds else None
    for start in range(0, part.m, ROWS):
        rows = slice(start, min(start + ROWS, part.m))
        yield read_y(rows), None if read_weight is None else read_weight(rows)


def _log_shares(store: Store) -> np.ndarray:
    totals = class_totals(store.train, len(store.classes))
    return np.log(np.maximum(totals / totals.sum(), np.finfo(float).tiny))


def _constant(network: TableNetwork, store: Store) -> float:
    """The best constant for the loss, scaled as the training's targets are: ``TableNetwork.evaluate_guess`` has it."""
    scale, quantile = network.encoding.target_scale, network.network.loss.quantile
    if quantile is not None:
        return quantile_of(lambda: _targets(store), quantile)
    total = count = 0.0
    for y, weight in _targets(store):
        values = y.astype(np.float64) if scale.unit is None else scale.decode(y, predicted=False)
        total += float(values.sum() if weight is None else values @ weight.astype(np.float64))
        count += len(y) if weight is None else float(weight.sum(dtype=np.float64))
    return total / count if scale.unit is None else float(scale.encode(np.array(total / count)))
