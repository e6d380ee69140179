"""A store that is open: what it says of its table, and its rows."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fullbatch.machine.safe_output import path_of
from fullbatch.sources.columns import Examples
from fullbatch.sources.store_columns import StoredTable, StoredTarget, StoredWeight
from fullbatch.sources.store_file import StoreFile
from fullbatch.sources.store_parts import AnyPart, LoadedPart, Part, StoredArrays
from fullbatch.sources.uploaded import Uploaded


class Store:
    """An encoded table on the disk, open to be read: what ``fullbatch.open_store`` gives.

    Parameters
    ----------
    path : str or path
        The store's file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = StoreFile(Path(path_of(path, "a store")))
        rows = self.file.content["rows"]
        self.train: AnyPart = Part(self.file, 0, rows["train"])
        self.held_out: AnyPart = Part(self.file, self.train.leaves, rows["held_out"])

    @property
    def path(self) -> Path:
        """The file."""
        return self.file.path

    @property
    def content(self) -> dict[str, Any]:
        """What the file says of itself, as JSON has it."""
        return self.file.content

    @property
    def n(self) -> int:
        """The features that a network sees, one-hot ones too."""
        return int(self.content["features"])

    @property
    def shape(self) -> tuple[int, int]:
        """The rows to learn from, and the features of each."""
        return self.train.m, self.n

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns of the table that it was made of."""
        return tuple(self.content["encoding"]["feature_names"])

    @property
    def names(self) -> tuple[str, ...]:
        """All columns of that table, as a raw table has them."""
        return tuple(column["name"] for column in self.content["columns"] if column["kind"] != "left out")

    @property
    def target(self) -> str:
        """The name of the target's column."""
        return str(self.content["encoding"]["target"])

    @property
    def task(self) -> str:
        """Either "classify" or "regress"."""
        return str(self.content["encoding"]["task"])

    @property
    def classes(self) -> tuple[Any, ...]:
        """Sorted; ``y`` holds positions in them. () for a regression."""
        return tuple(self.content["encoding"]["classes"])

    @property
    def dtype(self) -> np.dtype:
        """Of the numbers: float32 or float64."""
        return self.file.kinds["numbers"][0]

    @property
    def seed(self) -> int:
        """What the order of the rows, and the held-out ones, were drawn with."""
        return int(self.content["seed"])

    @property
    def usual_batch(self) -> int | None:
        """The rows of a mini-batch where nobody says how many; None: as for any table."""
        return None

    @property
    def drops_units(self) -> bool:
        """Whether a training from it can have dropout."""
        return True

    def why_not_in_place(self) -> str:
        """Why full batches copy its numbers, where the native step runs; empty where they are looked at in the file."""
        if "codes" in self.file.kinds:
            return "its categories become ones and zeros, block by block"
        return self.file.mapping()[1]

    def examples(self, part: AnyPart, place: Any = None) -> Examples:
        """The rows of a part, read as a fold needs them.

        Parameters
        ----------
        part : Part
            ``store.train`` or ``store.held_out``.
        place : Place or None, default=None
            Where the passes run, if not on the host: there they are uploaded block by block, the weights as a whole.

        Returns
        -------
        Examples
        """
        X, Y = StoredTable(part, self.n), StoredTarget(part, len(self.classes))
        weight: Any = StoredWeight(part) if "weight" in part.kinds else None
        if place is None or place.name == "cpu":
            return Examples(X, Y, weight)
        weight = None if weight is None else place.put(weight[slice(0, part.m)])
        return Examples(Uploaded(X, place), Uploaded(Y, place), weight)

    def to_arrays(self, *, held_out: bool = False) -> StoredArrays:
        """The rows to learn from, or the held-out ones, in memory.

        Parameters
        ----------
        held_out : bool, default=False
            Which of the two.

        Returns
        -------
        StoredArrays
            numbers (m, k), codes (m, c) or None, y (m,), weight (m,) or None.
        """
        return (self.held_out if held_out else self.train).arrays()

    def load(self) -> Store:
        """The same store with all rows in memory: what is trained from it has the same bits.

        Returns
        -------
        Store
        """
        loaded = copy.copy(self)
        for name in ("train", "held_out"):
            part = getattr(self, name)
            setattr(loaded, name, LoadedPart(part.arrays(), part.leaf, part.window))
        return loaded

    def __len__(self) -> int:
        """How many leaves there are to learn from."""
        return self.train.leaves

    def __iter__(self) -> Iterator[StoredArrays]:
        """The leaves to learn from, each in memory while it is looked at."""
        part = self.train
        for start in range(0, part.m, part.leaf):
            yield part.arrays(slice(start, min(start + part.leaf, part.m)))

    def close(self) -> None:
        """Close the file. Whatever still reads from it gets a StoreError."""
        self.file.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        m, n = self.shape
        return f"<Store {str(self.path)!r}: {m:,} rows of {n} features, {self.held_out.m:,} held out>"


def open_store(path: str | os.PathLike[str]) -> Store:
    """Open a store, an encoded table on the disk that ``fullbatch convert`` wrote.

    Parameters
    ----------
    path : str or path
        The store's file.

    Returns
    -------
    Store
        ``fit`` of the estimators and ``cost_and_gradients`` take it as it is. It has ``shape`` (rows to learn from,
        and features), ``columns``, ``target``, ``task``, ``classes``, ``seed`` and ``to_arrays()``; to iterate over it
        gives its leaves one by one. A context manager; ``close`` closes the file. Several may be open at once.

    Raises
    ------
    StoreError
        On one line, for a file that is missing, no store, cut short, damaged or of another version. A leaf's checksum
        is compared when it is first read; the error names the leaf.

    Examples
    --------
    >>> import fullbatch as fb, pathlib, tempfile
    >>> from fullbatch.tables.store import convert
    >>> table = {"x": [0.5 * i for i in range(10)], "late": ["no", "yes"] * 5}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder) / "late.store"
    ...     _ = convert(table, path, "late", validation=0.0)
    ...     with fb.open_store(path) as store:
    ...         store.shape, store.columns, store.classes
    ((10, 1), ('x',), ('no', 'yes'))
    """
    return Store(path)
