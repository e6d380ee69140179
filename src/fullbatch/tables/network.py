"""A table's network without its estimator: what predicting takes, and nothing of scikit-learn, which takes a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fullbatch.core.classes import log_probabilities, probabilities
from fullbatch.core.network import Network
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, places
from fullbatch.sources import Columns, Uploaded
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.model import TablePredictor


class TableNetwork(TablePredictor):
    """A table encoding, and the parameters of a network of what it encodes: predicts and scores raw tables.

    Its answers are those of the ``TableModel`` of the same file, to the bit.

    theta : all parameters, one vector on the host, of the encoding's dtype
    device : as ``device=`` of the estimators
    """

    def __init__(
        self,
        encoding: TableEncoding,
        network: Network,
        theta: np.ndarray,
        *,
        device: str = "auto",
        record: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(encoding, record)
        self.network, self.theta, self.device = network, theta, device

    def __repr__(self) -> str:
        return f"TableNetwork(target={self.encoding.target!r}, task={self.task!r}, network={self.network!r})"

    def _numbers(self, encoded: Columns) -> np.ndarray:
        return self._forward(encoded, self.network, lambda yhat: yhat)[0]

    def _probabilities(self, encoded: Columns) -> np.ndarray:
        return self._forward(encoded, self.network, probabilities).T

    def _log_probabilities(self, encoded: Columns) -> np.ndarray:
        softmax = self.network.output.name == "softmax"
        scores = Network(self.network.sizes, self.network.activations, "identity")  # whose yhat is Z[L] itself
        return self._forward(encoded, scores, lambda Z: log_probabilities(Z, softmax=softmax)).T

    def _forward(self, encoded: Columns, network: Network, finish: Callable[[Any], Any]) -> np.ndarray:
        """What ``finish`` makes of yhat (n[L], m), on the host."""
        place = places.place(self.device)
        X = encoded if place.name == "cpu" else Uploaded(encoded, place)
        with place.computing(), Fold(network, X) as fold:
            made = fold.predict(place.put(self.theta), lambda block: arrays.to_host(finish(block)))
        return np.asarray(made)
