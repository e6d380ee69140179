"""What the estimators of tables do with a store: its encoding, the record of the model's making, scores in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.sources.stored import Store, examples_of
from fullbatch.tables.fit import Settings
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.scores import NOTHING, score_classes

ROWS = 2**18  # that are scored at a time
EXACT = 2**20  # So many rows are scored at once, as those of a table are; of more, ranks come from a histogram.
BINS = 2**20
FARTHEST = 64.0  # Logits and logarithms beyond this are one bin.


def check_parameters(estimator: Any, store: Store, given: dict[str, Any], default: Settings) -> None:
    """InputError for whatever was decided when the store was made, and is asked for otherwise now."""
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
        "split_by": None, "group": None, "drop": (), "metric": None, "threshold": None, "class_weight": None,
        "loss": "squared_error", "log_target": False,
    }  # fmt: skip
    for name, usually in of_tables.items():
        asked = getattr(estimator, name, usually)
        if (tuple(asked) if usually == () else asked) != usually:
            raise InputError(f"{name}={asked!r} goes with a table, and not with a store.")
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
        "held_out_by": "drawn",
        "held_out_rows": store.held_out.m,
        "not_scored": {},
        "data": {
            "rows": rows + sum(content["left_out"].values()),
            "columns": len(content["columns"]),
            "crc32": store.train.checksum()[:8],
            "files": [],
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


def scores(network: TableNetwork, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of the network on the held-out rows, and those of a guess that knows the training's targets alone."""
    if store.task == "regress":
        return _scores_of_numbers(network, store)
    counts = np.array([count for _, count in store.content["classes"]], np.float64)
    share = np.log(np.maximum(counts / counts.sum(), np.finfo(float).tiny))

    def guess(X: Any) -> np.ndarray:
        return np.broadcast_to(share, (X.m, len(share)))

    return _scores_of_classes(network.log_probabilities, store), _scores_of_classes(guess, store)


def _blocks(store: Store, rows: int) -> Iterator[tuple[Any, np.ndarray]]:
    """The features and the targets of the held-out rows."""
    part = store.held_out
    for start in range(0, part.m, rows):
        found = part.arrays(slice(start, min(start + rows, part.m)))
        yield examples_of(found, store.n, len(store.classes)).X, found.y


def _scores_of_classes(log_proba: Callable[[Any], np.ndarray], store: Store) -> dict[str, Any]:
    if store.held_out.m <= EXACT:
        ((X, y),) = _blocks(store, EXACT)
        return score_classes(log_proba(X), y.astype(np.int64))
    k = len(store.classes)
    ranks = [Ranks() for _ in range(1 if k == 2 else k)]
    matrix, loss = np.zeros((k, k), np.int64), 0.0
    for X, y in _blocks(store, ROWS):
        found, own = log_proba(X), y.astype(np.int64)
        loss -= float(np.take_along_axis(found, own[:, np.newaxis], axis=1).sum(dtype=np.float64))
        np.add.at(matrix, (own, np.argmax(found, axis=1)), 1)
        if k == 2:
            ranks[0].add(found[:, 1].astype(np.float64) - found[:, 0], own == 1)
        else:
            for j, one in enumerate(ranks):
                one.add(found[:, j], own == j)
    m = int(matrix.sum())
    areas = [area for one in ranks if not np.isnan(area := one.auc())]
    scored = {"m": m, "cost": loss / m, "accuracy": float(np.trace(matrix) / m)}
    scored["auc"] = float(np.mean(areas)) if areas else NOTHING
    if k == 2:
        scored["average_precision"] = ranks[0].average_precision()
    return {**scored, "log_loss": loss / m, "confusion_matrix": matrix.tolist(), "bins": BINS}


class Ranks:
    """The scores of the order of rows, from how many of both kinds have each value, to within a bin; two add."""

    def __init__(self) -> None:
        self.counts = np.zeros((2, BINS), np.int64)

    def add(self, values: np.ndarray, positive: np.ndarray) -> None:
        # Bins are narrowest around 0, where most logits are: 9e-6 there, 4e-5 at 4.
        end = np.arcsinh(FARTHEST)
        bins = np.clip((np.arcsinh(values) + end) * (BINS / (2 * end)), 0, BINS - 1).astype(np.int64)
        for counts, rows in zip(self.counts, (~positive, positive), strict=True):
            counts += np.bincount(bins[rows], minlength=BINS)

    def auc(self) -> float:
        negative, positive = self.counts.astype(np.float64)
        pairs = negative.sum() * positive.sum()
        return float(((np.cumsum(negative) - negative / 2) @ positive) / pairs) if pairs else NOTHING

    def average_precision(self) -> float:
        """The rows of a bin have one threshold, as those of one value have."""
        negative, positive = self.counts[:, ::-1].astype(np.float64)
        if not positive.sum() or not negative.sum():
            return NOTHING
        right = np.cumsum(positive)
        return float((positive * right / np.maximum(right + np.cumsum(negative), 1)).sum() / right[-1])


def _scores_of_numbers(network: TableNetwork, store: Store) -> tuple[dict[str, Any], dict[str, Any]]:
    """By sums, of the predictions and of the mean of the training's targets, which is 0 where these are scaled."""
    decode = network.encoding.decode_target
    model, guess = Errors(), Errors()
    for X, y in _blocks(store, ROWS):
        scaled = network.numbers(X).astype(np.float64)
        for errors, predicted in ((model, scaled), (guess, np.zeros(len(y)))):
            own = decode(y, predicted=False)
            errors.add(predicted - y, decode(predicted) - own, own)
    return model.scores(), guess.scores()


@dataclass
class Errors:
    """Sums of errors, and of the deviations of what was to be predicted (Chan, Golub and LeVeque 1979)."""

    m: int = 0
    cost: float = 0.0
    squares: float = 0.0
    absolute: float = 0.0
    mean: float = 0.0
    spread: float = 0.0

    def add(self, scaled: np.ndarray, error: np.ndarray, target: np.ndarray) -> None:
        count, mean = len(target), float(target.mean())
        apart, m = mean - self.mean, self.m + count
        self.spread += float(((target - mean) ** 2).sum()) + apart * apart * self.m * count / m
        self.mean += apart * count / m
        self.m = m
        self.cost += float((scaled**2).sum() / 2)
        self.squares += float((error**2).sum())
        self.absolute += float(np.abs(error).sum())

    def scores(self) -> dict[str, Any]:
        return {
            "m": self.m,
            "cost": self.cost / self.m,
            "r2": 1 - self.squares / self.spread if self.spread else NOTHING,
            "rmse": (self.squares / self.m) ** 0.5,
            "mae": self.absolute / self.m,
        }
