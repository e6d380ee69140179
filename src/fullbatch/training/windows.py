"""Mini-batches of a store: window after window, each in memory while the batches of it are done, or whole leaves.

Whole leaves come as they lie on the disk, in an order that follows from a seed and the epoch. A store's rows were
permuted when it was written, so that this is as good as to mix them, and any engine sums them to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from fullbatch.errors import InputError
from fullbatch.fold.tree import leaf_size
from fullbatch.sources import Examples, Where, length
from fullbatch.sources.mapped import MappedWindow, is_large_map
from fullbatch.sources.sharded import Sharded
from fullbatch.sources.spread import Spread
from fullbatch.sources.windows import LeafOrder, Window, WindowOrder, part_of
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.state import OrderState, TrainingState

if TYPE_CHECKING:
    from fullbatch.training.minibatches import Batches


MOST_UPDATES = 256  # of an epoch on a cluster, where nobody says how many


def in_windows(examples: Examples) -> bool:
    """Whether mini-batches of these examples go by windows: of a store, and of a map that is larger than memory."""
    return part_of(examples) is not None or is_large_map(examples.X)


def leaf_of(examples: Examples, batch_size: int) -> int:
    """The rows of a leaf where mini-batches are whole leaves, 0 where they are not.

    Of a store they are, where so many rows are leaves of the fold's too; of examples on a cluster they have to be.
    InputError where they cannot be.
    """
    X, leaf = examples.X, leaf_size(examples.X.n)
    if not isinstance(X, Sharded):
        part = part_of(examples)
        return leaf if part is not None and part.leaf == leaf and batch_size % leaf == 0 else 0
    if isinstance(X, Spread) and batch_size < X.m:
        raise InputError(
            f"mini-batches are refused on several devices ({X.device}), each of which has leaves of its own: choose "
            "one of them, or solver='lbfgs' or batch_size='full'."
        )
    if (X.pieces or not X.permuted) and batch_size < X.m:
        of, more = ("a Dask collection", "its partitions end with short leaves, and ") if X.pieces else ("files", "")
        raise InputError(
            f"mini-batches of {of} are refused on a cluster: {more}their rows lie in an order of their own. Give "
            "solver='lbfgs' or batch_size='full', or write the table as a store, whose rows are permuted."
        )
    if batch_size % leaf and batch_size < X.m:
        raise InputError(
            f"batch_size={batch_size:,} is refused on a cluster, where a mini-batch is whole leaves, here of {leaf:,} "
            "rows: one call of the workers takes 2 to 9 ms, and to compute less than a leaf takes less than that. Give "
            f"a multiple of {leaf:,}, or 'full'."
        )
    return leaf


def usual_batch(examples: Examples) -> int:
    """The rows of a mini-batch on a cluster, where nobody says how many: a power of two of leaves."""
    X, leaf = examples.X, leaf_size(examples.X.n)
    if isinstance(X, Sharded) and X.pieces:
        return X.m
    leaves = max(1, X.m // leaf // (MOST_UPDATES // 2))
    return min(leaf << (leaves.bit_length() - 1), X.m)


class WindowBatches:
    """The batches of an epoch of a store's rows; see minibatches.Batches. What runs a window is ``make``'s choice."""

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        state: TrainingState,
        batch_size: int,
        make: Callable[[Objective, Optimizer, TrainingState, int], Batches],
    ) -> None:
        mapped = is_large_map(objective.examples.X)
        self.window = (MappedWindow if mapped else Window)(objective.examples, batch_size)
        self.inner = make(objective.over(self.window.examples), optimizer, state, batch_size)

    @property
    def theta(self) -> Any:
        return self.inner.theta

    @property
    def arrays(self) -> tuple[Any, ...]:
        return self.inner.arrays

    @property
    def updates(self) -> int:
        return self.inner.updates

    @property
    def epoch_examples(self) -> int:
        return self.inner.epoch_examples

    @property
    def total(self) -> float:
        return self.inner.total

    @property
    def cost(self) -> float:
        return self.inner.cost

    def begin(self, done: int, total: float) -> None:
        self.inner.begin(done, total)

    def run(
        self, order: Where, rate: Callable[[int], float], first: int = 0, m: int | None = None
    ) -> Iterator[float | None]:
        m = m or length(order)
        # A training that goes on has done some of the epoch's examples: so many are left out, and not read again.
        done = self.inner.epoch_examples - first
        for before, chunk in self.window.chunks(order, done):
            yield from self.inner.run(chunk, rate, first + before, m)


class WindowOrders:
    """The orders of a store's rows, for ever: epoch e's follows from e and a seed that the generator gave first.

    state : None, or what all orders follow from
    """

    def __init__(self, m: int, shuffled: bool, rng: Any, state: OrderState | None = None) -> None:
        if state is not None:
            rng.set_state(state.start)
        self.m, self.drawn, self.start = m, 0 if state is None else state.drawn, rng.get_state()
        self.seed = int(rng.randint(2**31 - 1)) if shuffled else None
        self.now = rng.get_state() if state is None else state.now
        rng.set_state(self.now)

    def __iter__(self) -> Iterator[WindowOrder]:
        return self

    def __next__(self) -> WindowOrder:
        order = WindowOrder(self.m, self.seed, self.drawn)
        self.drawn += 1
        return order

    @property
    def state(self) -> OrderState | None:
        return None if self.seed is None else OrderState(self.start, self.drawn, self.now)


class LeafOrders(WindowOrders):
    """The same in whole leaves."""

    def __init__(self, leaf: int, m: int, shuffled: bool, rng: Any, state: OrderState | None = None) -> None:
        super().__init__(m, shuffled, rng, state)
        self.leaf = leaf

    def __next__(self) -> LeafOrder:  # type: ignore[override]  # an order as any other
        return LeafOrder.of_epoch(self.leaf, self.m, super().__next__())
