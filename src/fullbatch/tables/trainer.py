"""The network's own estimator, which trains it on encoded rows: what it learned, how it ended, what chose it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fullbatch.core.activations import SCIKIT_LEARNS
from fullbatch.errors import NonFiniteError
from fullbatch.sources.stored import Store
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.epochs import best_epoch
from fullbatch.tables.fit import Settings
from fullbatch.tables.network import TableNetwork
from fullbatch.training.optimizers import OPTIMIZERS


def network_of(encoding: TableEncoding, trainer: Any, made_of: dict[str, Any]) -> TableNetwork:
    output = SCIKIT_LEARNS.get(trainer.out_activation_, trainer.out_activation_)
    loss = {name: getattr(trainer, name, None) for name in ("loss", "quantile")}  # A classifier has one loss alone.
    return TableNetwork.of_layers(
        encoding, trainer.coefs_, trainer.intercepts_, trainer._activation(), output, **loss, record=made_of
    )


def as_usual_for(store: Store, settings: Settings) -> Settings:
    """The settings with what the store has a say in, where nobody else says it: rows of a mini-batch, dropout."""
    if settings.dropout is None and not store.drops_units:
        settings = replace(settings, dropout=0.0)
    by_batches = settings.solver in OPTIMIZERS and not OPTIMIZERS[settings.solver].whole
    if settings.batch_size is None and by_batches and store.usual_batch is not None:
        return replace(settings, batch_size=store.usual_batch)
    return settings


def chosen_by_held_out(settings: Settings) -> list[str]:
    """What the held-out rows choose, so that they are not unseen."""
    choices = {"epoch": settings.chooses_epoch, "threshold": settings.threshold == "auto"}
    return [name for name, chosen in choices.items() if chosen]


def ended(trainer: Any, settings: Settings) -> dict[str, Any]:
    """In which epoch the training ended, and that whose parameters are kept where held-out rows choose it.

    retraining : of a second training, how many epochs were over before it, how many it has, and the least held-out
        cost of the first and of the second; None: there was none
    """
    costs = trainer.validation_costs_ if settings.chooses_epoch else None
    second = None
    if costs and trainer.retraining_ is not None:
        after, epochs = trainer.retraining_
        least = [min(part) if part else None for part in (costs[:after], costs[after:])]
        second = {"after": after, "epochs": epochs, "costs": least}
    best = best_epoch(costs) if costs else None
    return {"epoch": len(trainer.loss_curve_ or []), "best": best, "retraining": second}


def refuse_divergence(trainer: Any) -> None:
    """NonFiniteError where the cost stopped being finite, even if an earlier epoch's parameters were kept."""
    costs = trainer.loss_curve_
    if costs and not math.isfinite(costs[-1]):
        raise NonFiniteError(
            f"the cost became {costs[-1]} in epoch {len(costs)}: the steps are too large; choose a learning rate "
            f"smaller than {trainer.learning_rate_init:g} (a tenth, to begin with).",
            iteration=len(costs),
        )
