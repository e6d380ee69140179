"""Real data for ``training``, encoded as the command ``fullbatch train`` encodes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.machine import free_memory
from bench.results import chosen
from fullbatch.errors import InputError
from fullbatch.sources.encoded import EncodedTable
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.raw import RawTable
from fullbatch.tables.reading import read_table

if TYPE_CHECKING:
    import scipy.sparse

DENSE_SHARE = 0.4  # of the free memory that a dense copy of an encoded table may take
FILL_ROWS = 8192


@dataclass(frozen=True)
class Dataset:
    """Files, and what scikit-learn's MLP is trained with: ``epochs`` is how long it may take to set the mark.

    endings : of the files name-train and name-test; "" for a data set that scikit-learn ships
    """

    target: str
    hidden: tuple[int, ...]
    batch: int
    epochs: int
    ending: str = ""


DATASETS = {
    "nyc-late": Dataset("late", (64,), 1000, 16, ".csv.gz"),
    "mnist": Dataset("digit", (100,), 200, 15, ".parquet"),
    "flights-late": Dataset("late", (64,), 1000, 3, ".parquet"),
    "digits": Dataset("digit", (64,), 50, 20),
}


@dataclass(frozen=True)
class Encoded:
    """One data set, in the forms that the contenders take; the numbers in them are the same.

    X, X_test : what ``fullbatch train`` makes of the tables, (m, n): numbers, and codes that are one-hot block by block
    matrix : the training table as an array, or as a CSR matrix where there are codes
    dense : the training table as an array; None where it would take too much memory
    y, y_test : classes as 0, 1, ..., k-1
    """

    name: str
    settings: Dataset
    classes: int
    X: EncodedTable
    y: np.ndarray
    X_test: EncodedTable
    y_test: np.ndarray
    matrix: np.ndarray | scipy.sparse.csr_matrix
    dense: np.ndarray | None

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.X.n, *self.settings.hidden, 1 if self.classes == 2 else self.classes)

    def head(self, rows: int) -> Encoded:
        """The first rows to train on, and the first of each class."""
        chosen = np.union1d(np.arange(min(rows, self.X.m)), np.unique(self.y, return_index=True)[1])
        return replace(
            self,
            X=EncodedTable(self.X.numbers[chosen], self.X.ones[chosen], self.X.n),
            y=self.y[chosen],
            matrix=self.matrix[chosen],
            dense=None if self.dense is None else self.dense[chosen],
        )


def available(given: list[str] | None, folder: Path | None) -> tuple[str, ...]:
    """The names of the data sets to use; an InputError names a file that is missing, or asks for the folder."""
    known = [name for name, data in DATASETS.items() if bool(data.ending) == (folder is not None)]
    names = chosen(given or known, DATASETS, "data set")
    for name in names:
        ending = DATASETS[name].ending
        if ending and folder is None:
            raise InputError(f"{name} is read from files; give the folder that has {name}-train{ending} with --data.")
        for path in _files(name, folder):
            if not path.is_file():
                raise InputError(f"no such file: {path}; --data is the folder that has {path.name}.")
    return names


def _files(name: str, folder: Path | None) -> list[Path]:
    ending = DATASETS[name].ending
    return [folder / f"{name}-{part}{ending}" for part in ("train", "test")] if ending and folder is not None else []


def load(name: str, folder: Path | None) -> Encoded:
    """Read and encode. TableError for files that cannot be read."""
    settings = DATASETS[name]
    train, test = [read_table(path) for path in _files(name, folder)] or _digits()
    encoding = TableEncoding.learn(train, settings.target, task="classify")
    X = encoding.encode(train)
    dense = None if X.m * X.n * 4 > DENSE_SHARE * (free_memory() or 2**33) else as_dense(X)
    return Encoded(
        name, settings, len(encoding.classes), X, encoding.encode_target(train),
        encoding.encode(test), encoding.encode_target(test),
        as_csr(X) if X.ones.shape[1] else X.numbers, dense,
    )  # fmt: skip


def _digits() -> list[RawTable]:
    """scikit-learn's digits: 8 x 8 pixels; every fifth row is for the test."""
    from sklearn.datasets import load_digits

    pixels, digit = load_digits(return_X_y=True)
    columns: dict[str, Any] = {f"p{j}": pixels[:, j] for j in range(pixels.shape[1])}
    table = RawTable.of({**columns, "digit": digit})
    rows = np.arange(table.m)
    return [table.select(rows[rows % 5 != 4]), table.select(rows[rows % 5 == 4])]


def as_dense(X: EncodedTable) -> np.ndarray:
    """The encoded table as one array (m, n)."""
    if not X.ones.shape[1]:
        return X.numbers
    out = np.empty((X.m, X.n), X.numbers.dtype)
    read = X.reader()
    for start in range(0, X.m, FILL_ROWS):
        rows = slice(start, min(start + FILL_ROWS, X.m))
        out[rows] = read(rows).T
    return out


def as_csr(X: EncodedTable) -> scipy.sparse.csr_matrix:
    """The encoded table as a CSR matrix (m, n) of as few non-zeros as it has."""
    from scipy.sparse import csr_matrix

    k = X.numbers.shape[1]
    values = np.concatenate([X.numbers, (X.ones > 0).astype(X.numbers.dtype)], axis=1)
    columns = np.concatenate(
        [np.broadcast_to(np.arange(k, dtype=np.int32), X.numbers.shape), X.ones], axis=1, dtype=np.int32
    )
    there = values != 0
    ends = np.concatenate([[0], np.cumsum(there.sum(axis=1, dtype=np.int64))])
    return csr_matrix((values[there], columns[there], ends.astype(np.int32)), shape=(X.m, X.n))
