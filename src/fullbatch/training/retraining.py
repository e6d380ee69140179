"""Training once more, for as long as held-out examples found best: early stopping says how long, and nothing more.

Where the best epoch comes early its rate was still high. A second training from the same start, over whose fewer epochs
the rate falls to zero, ends better (Goodfellow, Bengio and Courville, Deep Learning, 2016, section 7.8, train anew for
the number of steps that early stopping found, with the held-out examples; here they go on to judge).
"""

from __future__ import annotations

LEAST = 3  # epochs of a second training
EARLY = 2 / 3  # of the planned epochs: where the best one comes later, the rate was low already


def epochs_of_second(best: int, planned: int) -> int:
    """The epochs of a second training, by the best one of the first, from 1, and its planned ones; 0: there is none."""
    epochs = max(best, LEAST)
    return epochs if best < EARLY * planned and epochs < planned else 0


def most_epochs(planned: int) -> int:
    """The epochs that both can have together, at most."""
    return planned + max((epochs_of_second(best, planned) for best in range(1, planned)), default=0)
