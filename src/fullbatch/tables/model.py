"""A model of a raw table: how its columns become numbers, and what predicts from them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.sources import Columns
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.scores import score_classes, score_numbers

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable


class TablePredictor:
    """A table encoding and what predicts from what it encodes: it predicts and scores raw tables.

    Everything goes block by block through the network, so that the encoded table never exists as a whole. A subclass
    says what the network makes of an encoded table: numbers (m,), or (logarithms of) probabilities (m, k).

    record : how it was made, as JSON has it: the report of the columns, settings, rows and scores; {}: not known
    """

    def __init__(self, encoding: TableEncoding, record: dict[str, Any] | None = None) -> None:
        self.encoding = encoding
        self.record = record or {}

    def _numbers(self, encoded: Columns) -> np.ndarray:
        raise NotImplementedError

    def _probabilities(self, encoded: Columns) -> np.ndarray:
        raise NotImplementedError

    def _log_probabilities(self, encoded: Columns) -> np.ndarray:
        raise NotImplementedError

    @property
    def task(self) -> str:
        """ "classify" or "regress"."""
        return str(self.encoding.task)

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes as they are in the table, sorted; () for a regression."""
        return self.encoding.classes

    def read(self, table: Any, *, with_target: bool = False) -> RawTable:
        """The columns that the model needs, of a raw table, a frame, a dict, a path: whatever ``as_table`` takes."""
        from fullbatch.tables.frames import as_table
        from fullbatch.tables.raw import Conventions

        encoding = self.encoding
        columns = [*encoding.feature_names, *([encoding.target] if with_target and encoding.target else [])]
        return as_table(table, columns=columns, text=encoding.text_names, conventions=Conventions.of(encoding))

    def predict(self, table: Any) -> np.ndarray:
        """The most probable class of each row, or the predicted number in the target's own units: (m,).

        table : see ``read``; columns go by name, and others than the model's are ignored
        """
        if self.task == "classify":
            return self.most_probable(self.predict_proba(table))
        return self.encoding.decode_target(self._numbers(self.encoding.encode(self.read(table))))

    def most_probable(self, proba: np.ndarray) -> np.ndarray:
        """The most probable class of each row of probabilities (m, k): (m,)."""
        return self.encoding.decode_target(np.argmax(proba, axis=1))

    def predict_proba(self, table: Any) -> np.ndarray:
        """The probability of each class, in the order of ``classes``: (m, k). InputError for a regression."""
        if self.task != "classify":
            raise InputError("a regression has no probabilities; use predict.")
        return self._probabilities(self.encoding.encode(self.read(table)))

    def evaluate(self, table: Any) -> dict[str, float]:
        """Score the predictions of a table that has the target column.

        Keys: m, cost (without L2) and, for a classification, accuracy, auc (of several classes: one against
        the rest, the mean over classes), log_loss; for a regression r2 and mae, which is in the target's own
        units, while cost is the half squared error of the target scaled as in training. auc and r2 are NaN
        where they are not defined: where the rows have one class, or one value. Raises TableError for a class
        that training had not.
        """
        table = self.read(table, with_target=True)
        target = self.encoding.encode_target(table)
        encoded = self.encoding.encode(table)
        if self.task == "classify":
            return score_classes(self._log_probabilities(encoded), target)
        scaled = self._numbers(encoded).astype(np.float64)
        return self._score_numbers(scaled, target)

    def _score_numbers(self, scaled: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """The cost of what is scaled as in training; the other scores in the target's own units."""
        in_own_units = self.encoding.decode_target
        return {
            "m": len(target),
            "cost": float(np.mean((scaled - target) ** 2) / 2),
            **score_numbers(in_own_units(scaled), in_own_units(target)),
        }

    def evaluate_guess(self, learned_from: np.ndarray, table: RawTable) -> dict[str, float]:
        """The scores, with the same keys, of one guess for every row that knows the training targets alone.

        It is the share of each class among them, or their mean.
        learned_from : encoded training targets, (rows,)
        """
        target = self.encoding.encode_target(table)
        if self.task == "classify":
            share = np.bincount(learned_from, minlength=len(self.classes)) / len(learned_from)
            log_share = np.log(np.maximum(share, np.finfo(float).tiny))
            return score_classes(np.broadcast_to(log_share, (len(target), len(share))), target)
        guess = np.full(len(target), np.mean(learned_from, dtype=np.float64))
        return self._score_numbers(guess, target)


class TableModel(TablePredictor):
    """A table encoding and an estimator fitted on what it encodes."""

    def __init__(self, encoding: TableEncoding, estimator: Any, record: dict[str, Any] | None = None) -> None:
        super().__init__(encoding, record)
        self.estimator = estimator

    def __repr__(self) -> str:
        return f"TableModel(target={self.encoding.target!r}, task={self.task!r}, estimator={self.estimator!r})"

    def _numbers(self, encoded: Columns) -> np.ndarray:
        return np.asarray(self.estimator.predict(encoded))

    def _probabilities(self, encoded: Columns) -> np.ndarray:
        return np.asarray(self.estimator.predict_proba(encoded))

    def _log_probabilities(self, encoded: Columns) -> np.ndarray:
        return np.asarray(self.estimator.predict_log_proba(encoded))
