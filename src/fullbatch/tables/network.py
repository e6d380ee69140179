"""A model of a raw table, as far as predicting goes: nothing of scikit-learn, which takes a second to import."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fullbatch.core.classes import log_probabilities, probabilities
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, flatten
from fullbatch.errors import InputError, TableError
from fullbatch.machine import arrays, places
from fullbatch.machine.threads import of_jobs
from fullbatch.sources import Columns, Uploaded
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.scores import decide, score_by, score_classes
from fullbatch.tables.scores import score_numbers as scores_of_numbers

if TYPE_CHECKING:
    from fullbatch.tables.raw import RawTable


class TableNetwork:
    """How the columns of a raw table become numbers, and a network of these: it predicts and scores raw tables.

    ``TableClassifier`` and ``TableRegressor`` hold one, and ``load_network`` reads a model file as one. Everything goes
    block by block through the network, so that the encoded table never exists as a whole.

    Parameters
    ----------
    encoding : TableEncoding
    network : Network
        Of what the encoding makes.
    theta : array
        All parameters, one vector on the host, of the encoding's dtype.
    record : dict
        How the model was made, as JSON has it (``fullbatch.tables.record``); {}: not known.
    threshold : float, optional
        Of two classes, the probability from which on the second is predicted; None: the more probable one is.
    device, device_memory, n_jobs
        Where it is computed, as the estimators have it.
    """

    def __init__(
        self,
        encoding: TableEncoding,
        network: Network,
        theta: np.ndarray,
        *,
        record: dict[str, Any] | None = None,
        threshold: float | None = None,
        device: str = "auto",
        device_memory: float | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.encoding = encoding
        self.network, self.theta = network, theta
        self.record = record or {}
        self.threshold = threshold
        self.device, self.device_memory, self.n_jobs = device, device_memory, n_jobs

    @classmethod
    def of_layers(
        cls,
        encoding: TableEncoding,
        coefs: Sequence[np.ndarray],
        intercepts: Sequence[np.ndarray],
        hidden: Any,
        output: str,
        *,
        loss: str | None = None,
        quantile: float | None = None,
        **more: Any,
    ) -> TableNetwork:
        """One of an estimator's ``coefs_`` and ``intercepts_``; the others as ``Network`` takes them."""
        sizes = [coefs[0].shape[0], *(W.shape[1] for W in coefs)]
        theta = flatten(tuple(Layer(W.T, b) for W, b in zip(coefs, intercepts, strict=True)))
        return cls(encoding, Network(sizes, hidden, output, loss, quantile), theta, **more)

    def __repr__(self) -> str:
        return f"TableNetwork(target={self.encoding.target!r}, task={self.task!r}, network={self.network!r})"

    def on(self, device: str, device_memory: float | None, n_jobs: int | None) -> TableNetwork:
        """The same model, computed elsewhere."""
        other = copy.copy(self)
        other.device, other.device_memory, other.n_jobs = device, device_memory, n_jobs
        return other

    @property
    def task(self) -> str:
        """ "classify" or "regress"."""
        return str(self.encoding.task)

    @property
    def classes(self) -> tuple[Any, ...]:
        """The classes as they are in the table, sorted; () for a regression."""
        return self.encoding.classes

    # Tables in

    def read(self, table: Any, *, with_target: bool = False, more: Sequence[str] = ()) -> RawTable:
        """The columns that the model needs, of a raw table, a frame, a dict, a path: whatever ``as_table`` takes.

        more : columns that are read besides
        """
        return read_as(self.encoding, table, with_target=with_target, more=more)

    def unused(self, table: Any) -> list[str]:
        """The columns of a table that the model does not know: neither did it learn from them nor leave them out."""
        from fullbatch.tables.frames import column_names

        known = {*self.encoding.feature_names, self.encoding.target}
        known |= {column["name"] for column in self.record.get("report", {}).get("columns", ())}
        return [name for name in column_names(table) if name not in known]

    # Predictions

    def predict(self, table: Any) -> np.ndarray:
        """The predicted class of each row, by ``threshold``, or the number in the target's own units: (m,).

        table : see ``read``; columns go by name, and others than the model's are ignored
        """
        if self.task == "classify":
            return self.decided(self.predict_proba(table))
        return self.encoding.decode_target(self.numbers(self.encoding.encode(self.read(table))))

    def decided(self, proba: np.ndarray) -> np.ndarray:
        """The predicted class of each row of probabilities (m, k), the most probable without a threshold: (m,)."""
        return self.encoding.decode_target(decide(proba, self.threshold))

    def predict_proba(self, table: Any) -> np.ndarray:
        """The probability of each class, in the order of ``classes``: (m, k). InputError for a regression."""
        self._require_classes()
        return self.probabilities(self.encoding.encode(self.read(table)))

    def predict_log_proba(self, table: Any) -> np.ndarray:
        """The logarithms of ``predict_proba``, computed without a detour over it, so that they stay finite."""
        self._require_classes()
        return self.log_probabilities(self.encoding.encode(self.read(table)))

    def _require_classes(self) -> None:
        if self.task != "classify":
            raise InputError("a regression has no probabilities; use predict.")

    # Scores

    def evaluate(self, table: Any, weight: np.ndarray | None = None, metric: str | None = None) -> dict[str, Any]:
        """Score the predictions of a table that has the target column; rows without a target are left out.

        weight : what each row counts, (m,); rows of weight 0 are left out too
        metric : a name of scikit-learn's ``scoring``, by which the predictions are scored besides

        Keys: m, cost (without L2) and, for a classification, accuracy, auc (of several classes: one against
        the rest, the mean over classes), log_loss; for a regression r2 and mae, which is in the target's own
        units, while cost is the mean loss, of the target scaled as in training. auc and r2 are NaN
        where they are not defined: where the rows have one class, or one value. Raises TableError for a class
        that training had not.
        """
        return self.scores_of(*self.scored(table, weight), metric)

    def scored(self, table: Any, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Of the rows that can be scored: log-probabilities (m, k) or scaled numbers (m,), targets and weights."""
        table, weight = _to_score(self.read(table, with_target=True), self.encoding.target, weight)
        target, encoded = self.encoding.encode_target(table), self.encoding.encode(table)
        made = self.log_probabilities(encoded) if self.task == "classify" else self.numbers(encoded)
        return made, target, weight

    def scores_of(
        self, made: np.ndarray, target: np.ndarray, weight: np.ndarray | None, metric: str | None = None
    ) -> dict[str, Any]:
        """The scores of what ``scored`` gave, of one table or of several after another."""
        if self.task == "classify":
            return self._score_classes(made, target, weight, metric, self.threshold)
        return self.score_numbers(made.astype(np.float64), target, weight, metric)

    def _score_classes(
        self,
        log_proba: np.ndarray,
        target: np.ndarray,
        weight: np.ndarray | None,
        metric: str | None,
        threshold: float | None = None,
    ) -> dict[str, Any]:
        scores = score_classes(log_proba, target, weight, threshold)
        if metric is not None:
            value = score_by(metric, np.exp(log_proba), target, weight, threshold)
            scores["metric"] = {"name": metric, "value": value}
        return scores

    def score_numbers(
        self, scaled: np.ndarray, target: np.ndarray, weight: np.ndarray | None, metric: str | None
    ) -> dict[str, Any]:
        """The cost of what is scaled as in training; the other scores in the target's own units."""
        in_own_units = self.encoding.decode_target
        predicted, true = in_own_units(scaled), in_own_units(target, predicted=False)
        scores: dict[str, Any] = {
            "m": len(target),
            "cost": float(np.average(self.losses(scaled, target.astype(np.float64)), weights=weight)),
            **scores_of_numbers(predicted, true, weight),
        }
        if metric is not None:
            scores["metric"] = {"name": metric, "value": score_by(metric, predicted, true, weight)}
        return scores

    def losses(self, scaled: np.ndarray, target: np.ndarray) -> np.ndarray:
        """The network's loss of each row, which takes Z: of exp, the logarithm of yhat, finite where yhat is 0."""
        loss, Z, Y = self.network.loss, scaled[np.newaxis, :], target[np.newaxis, :]
        if self.network.output.name == "exp":
            Z = np.log(np.maximum(Z, np.finfo(np.float64).tiny))
        least = 0.0 if loss.least is None else loss.least(Y, np)
        return np.reshape(loss.value(Z, Y, np) - least, -1)

    def evaluate_guess(
        self,
        learned_from: np.ndarray,
        table: RawTable,
        weights: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
        metric: str | None = None,
    ) -> dict[str, Any]:
        """The scores, with the same keys, of one guess for every row that knows the training targets alone.

        It is the share of each class among them, or what the loss makes of a constant: their mean, in the target's own
        units, their median or their quantile.
        learned_from : encoded training targets, (rows,)
        weights : of these rows, and of the table's
        """
        target, (learned, weight) = self.encoding.encode_target(table), weights
        if self.task == "classify":
            share = np.bincount(learned_from, weights=learned, minlength=len(self.classes))
            log_share = np.log(np.maximum(share / share.sum(), np.finfo(float).tiny))
            log_proba = np.broadcast_to(log_share, (len(target), len(share)))
            return self._score_classes(log_proba, target, weight, metric)
        return self.score_numbers(np.full(len(target), self._constant(learned_from, learned)), target, weight, metric)

    def _constant(self, learned_from: np.ndarray, weight: np.ndarray | None) -> float:
        """The best constant for the loss, scaled as the training targets ``learned_from`` are."""
        quantile, values = self.network.loss.quantile, learned_from.astype(np.float64)
        if quantile is not None:
            more: dict[str, Any] = {} if weight is None else {"weights": weight, "method": "inverted_cdf"}
            return float(np.quantile(values, quantile, **more))
        scale = self.encoding.target_scale
        if scale.unit is None:
            return float(np.average(values, weights=weight))
        return float(scale.encode(np.average(scale.decode(values, predicted=False), weights=weight)))

    # The forward pass

    def numbers(self, encoded: Columns) -> np.ndarray:
        """What a regression predicts of encoded rows, scaled as in training: (m,)."""
        return self._forward(encoded, self.network, lambda yhat: yhat)[0]

    def probabilities(self, encoded: Columns) -> np.ndarray:
        """The probabilities of encoded rows: (m, k)."""
        return self._forward(encoded, self.network, probabilities).T

    def log_probabilities(self, encoded: Columns) -> np.ndarray:
        """The logarithms of the probabilities of encoded rows: (m, k)."""
        softmax = self.network.output.name == "softmax"
        scores = Network(self.network.sizes, self.network.activations, "identity")  # whose yhat is Z[L] itself
        return self._forward(encoded, scores, lambda Z: log_probabilities(Z, softmax=softmax)).T

    def _forward(self, encoded: Columns, network: Network, finish: Callable[[Any], Any]) -> np.ndarray:
        """What ``finish`` makes of yhat (n[L], m), on the host."""
        from fullbatch.fold.fold import Fold

        place = places.place(self.device)
        budget = math.inf if self.device_memory is None else place.budget(self.device_memory)
        X = encoded if place.name == "cpu" else Uploaded(encoded, place)
        with place.computing(), Fold(network, X, threads=of_jobs(self.n_jobs), budget=budget) as fold:
            made = fold.predict(place.put(self.theta), lambda block: arrays.to_host(finish(block)))
        return np.asarray(made)


def read_as(encoding: TableEncoding, table: Any, *, with_target: bool = False, more: Sequence[str] = ()) -> RawTable:
    """The columns that an encoding needs, read as those that it was learned from: texts as texts, gaps as gaps."""
    from fullbatch.tables.frames import as_table
    from fullbatch.tables.raw import Conventions

    columns = [*encoding.feature_names, *([encoding.target] if with_target and encoding.target else []), *more]
    names = list(dict.fromkeys(columns))
    return as_table(table, columns=names, text=encoding.text_names, conventions=Conventions.of(encoding))


def _to_score(table: RawTable, target: str | None, weight: np.ndarray | None) -> tuple[RawTable, np.ndarray | None]:
    """The rows that have a target, and a weight above 0, with their weights: the others cannot be scored."""
    if target is None:
        return table, weight
    gaps = table.column(target).missing
    if gaps.all():
        raise TableError(f"target {target!r} is missing in every row; expected at least one row that has it.")
    keep = ~gaps if weight is None else ~gaps & (weight > 0)
    if not keep.any():
        raise TableError(f"all rows that have the target {target!r} have a weight of 0, so there is none to score.")
    if keep.all():
        return table, weight
    rows = np.flatnonzero(keep)
    return table.select(rows), None if weight is None else weight[rows]
