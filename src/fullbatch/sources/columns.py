"""The protocol of a source of examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from fullbatch.errors import InputError

Array = Any  # an array of any library of the array API standard
Where = Any  # which examples: a slice with both ends, or a NumPy array of indices (integers)
Reader = Callable[[Where], Array]  # gives the block (n, k) of some examples, good until the reader's next call


class Columns(Protocol):
    """``m`` examples as columns of ``n`` numbers each.

    ``like`` is any array of the library, device and dtype that the blocks have; it may be empty. A source of
    many zeros may have a ``sparse_reader(share)`` too, for steps that take SciPy's sparse arrays: its blocks as CSC, or
    None where more than that share of the numbers is not zero. One whose examples lie in memory may have an
    ``in_memory()``, their Layout, for whoever reads single examples in any order. A source of category codes may have
    ``entries``, the numbers and codes of an example, and a ``coded_reader()`` of Coded blocks. One that is a file may
    have an ``in_place_reader()``, whose blocks are looked at where they lie: ``is_whole`` is asked after each; and
    ``leaves_in_place()``, for whoever looks at many leaves at once, beside a target that has a ``filler()``.
    """

    @property
    def n(self) -> int: ...

    @property
    def m(self) -> int: ...

    @property
    def like(self) -> Array: ...

    def reader(self) -> Reader:
        """A reader of its own for each thread: it may own the buffer that its blocks live in.

        It may have ``expect`` and ``close`` too: see the functions of these names.
        """
        ...


class Coded(NamedTuple):
    """A block of examples as it goes to a GPU: numbers and category codes in place of ones and zeros.

    numbers : (k, j), features 0 to j - 1;  ones : (k, c) unsigned integers, other features that are 1: what is below j
        stands for none
    shape : of the block, (n, k), or of its transpose
    """

    numbers: Array
    ones: Array
    shape: tuple[int, int]

    @property
    def T(self) -> Coded:
        return self._replace(shape=self.shape[::-1])


class Layout(NamedTuple):
    """How ``m`` examples lie in memory: in one of three plain ways, by which fields are there.

    numbers : (n, m), dense;  or rows : SciPy's CSR array (m, n) of examples by features
    or numbers (k, m) and codes : (m, c) unsigned integers: features that are 1, beside the first k; 0 stands for none
    through : a source's own examples among these, in order, by index; None for all as they lie
    """

    numbers: Any = None
    rows: Any = None
    codes: Any = None
    through: Any = None

    @property
    def m(self) -> int:
        return int(self.rows.shape[0] if self.rows is not None else self.numbers.shape[1])

    @property
    def entries(self) -> float:
        """How many numbers and codes an example has there, on average."""
        if self.rows is not None:
            return float(self.rows.nnz / max(self.m, 1))
        return float(len(self.numbers) + (0 if self.codes is None else self.codes.shape[1]))


@dataclass(frozen=True)
class Examples:
    """What a cost is summed over.

    X : Columns of (n[0], m);  Y : Columns of (n[L], m), or None to predict;  weight : array (m,) or None.
    """

    X: Columns
    Y: Columns | None = None
    weight: Array | None = None

    def __post_init__(self) -> None:
        if self.Y is not None and self.X.m != self.Y.m:
            raise InputError(
                f"X has {self.X.m} examples and Y has {self.Y.m}: one column of Y belongs to each column of X."
            )
        if self.weight is not None and tuple(self.weight.shape) != (self.X.m,):
            raise InputError(
                f"sample_weight has shape {tuple(self.weight.shape)}; it must have shape ({self.X.m},), "
                "one weight per example."
            )

    @property
    def m(self) -> int:
        return self.X.m


def sparse_reader(X: Columns, share: float) -> Reader | None:
    """A reader of sparse blocks, where the source has one for this share of numbers that are not zero."""
    make = getattr(X, "sparse_reader", None)
    return make(share) if make is not None and share > 0 else None


def in_place_reader(X: Columns) -> Reader | None:
    """A reader of blocks as they lie in a file, where the source has one, for steps that keep nothing of a block."""
    make = getattr(X, "in_place_reader", None)
    return None if make is None else make()


def leaves_in_place(X: Columns) -> Any:
    """Whole leaves as they lie in a file, where a source has them (``in_place.LeavesInPlace``); else None."""
    make = getattr(X, "leaves_in_place", None)
    return None if make is None else make()


def filler(Y: Columns) -> Callable[[Where, Array], None] | None:
    """What puts blocks of a source into an array of the caller's, where it has one."""
    make = getattr(Y, "filler", None)
    return None if make is None else make()


def is_whole(reader: Reader | None) -> bool:
    """Whether a reader's last block was there until now. Where not, it is void, and asked for again."""
    ask = getattr(reader, "is_whole", None)
    return ask is None or bool(ask())


def entries(X: Columns) -> int:
    """The numbers and codes of an example, of a source that has a ``coded_reader``; 0 of any other."""
    return int(getattr(X, "entries", 0))


def in_memory(X: Columns) -> Layout | None:
    """How a source's examples lie in memory; None for one that makes its blocks, or that nobody needs to know of."""
    ask = getattr(X, "in_memory", None)
    return None if ask is None else ask()


def expect(reader: Reader | None, wheres: list[Where]) -> None:
    """Tell a reader what its next calls are for, one after another: one that can reads ahead."""
    tell = getattr(reader, "expect", None)
    if tell is not None:
        tell(wheres)


def close(reader: Reader | None) -> None:
    """Let a reader end its threads, where it has some. It may be called again after that, and starts new ones."""
    end = getattr(reader, "close", None)
    if end is not None:
        end()


def batches(order: Where, size: int) -> Iterator[Where]:
    """``order`` in consecutive parts of ``size`` examples, the last one maybe smaller."""
    for start in range(0, length(order), size):
        stop = min(start + size, length(order))
        yield slice(order.start + start, order.start + stop) if isinstance(order, slice) else order[start:stop]


def remaining(order: Where, place: int, stop: int | None = None) -> Where:
    """The rest of an order of examples, from a place in it on, or up to another one."""
    if not isinstance(order, slice):
        return order[place:stop]
    return slice(order.start + place, order.stop if stop is None else order.start + stop)


def length(where: Where) -> int:
    """The number of examples that ``where`` selects."""
    return where.stop - where.start if isinstance(where, slice) else len(where)
