"""The held-out rows of a store as rows to explain: a raw column is all that the encoding made of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from fullbatch.errors import InputError
from fullbatch.explaining.asked import Column, Rows
from fullbatch.sources.encoded import EncodedTable
from fullbatch.sources.store_file import is_store
from fullbatch.sources.store_parts import StoredArrays
from fullbatch.sources.stored import Store, open_store
from fullbatch.tables.encoding import TAIL, TableEncoding
from fullbatch.tables.from_store import check_same
from fullbatch.tables.network import TableNetwork


class StoredRows(Rows):
    """Encoded rows. What is permuted or replaced are all encoded columns of a raw one, together.

    found : their numbers, codes, targets and weights
    """

    def __init__(self, network: TableNetwork, found: StoredArrays) -> None:
        encoding = network.encoding
        self.network, self.found, self.m = network, found, len(found.numbers)
        self.names, self.classes = encoding.feature_names, tuple(encoding.classes)
        self.target_name, self.threshold = str(encoding.target), network.threshold
        y = np.asarray(found.y)
        self.target = y.astype(np.intp) if self.classes else encoding.decode_target(y, predicted=False)
        self.weight = None if found.weight is None else found.weight.astype(np.float64)

    def predict(self, rows: np.ndarray | None = None) -> np.ndarray:
        numbers, codes = self.found.numbers, self._codes()
        if rows is not None:
            as_they_are = np.arange(len(rows))
            numbers, codes = numbers[: len(rows)].copy(), codes[: len(rows)].copy()
            for j, name in enumerate(self.names):
                where = rows[:, j].astype(np.intp)
                if np.array_equal(where, as_they_are):
                    continue
                of_numbers, of_codes = _encoded(self.network.encoding, name)
                numbers[:, of_numbers] = self.found.numbers[where[:, np.newaxis], of_numbers]
                codes[:, of_codes] = self._codes()[where[:, np.newaxis], of_codes]
        encoded = EncodedTable(numbers, codes, self.network.encoding.n)
        if self.classes:
            return self.network.probabilities(encoded)
        return self.network.encoding.decode_target(self.network.numbers(encoded))

    def _codes(self) -> np.ndarray:
        return np.empty((self.m, 0), np.uint8) if self.found.codes is None else self.found.codes

    def take(self, rows: np.ndarray) -> StoredRows:
        numbers, codes, y, weight = self.found
        found = StoredArrays(
            numbers[rows], None if codes is None else codes[rows], y[rows], None if weight is None else weight[rows]
        )
        return StoredRows(self.network, found)

    def column(self, j: int) -> Column:
        encoding, name = self.network.encoding, self.names[j]
        of_numbers, of_codes = _encoded(encoding, name)
        if name not in encoding.numbers:
            return self._category(name, of_codes[0])
        i = encoding.numbers.index(name)
        z = self.found.numbers[:, i].astype(np.float64)
        beyond = np.abs(z) > TAIL
        z[beyond] = np.sign(z[beyond]) * (TAIL + np.expm1(np.abs(z[beyond]) - TAIL))
        values = encoding.center[i] + encoding.scale[i] * z
        for missing in of_numbers[1:]:
            values[self.found.numbers[:, missing] != 0] = np.nan
        dates = {part.name for part in encoding.categories if part.part in ("weekday", "month")}
        return Column(name, values, None, "date" if name in dates else "")

    def _category(self, name: str, c: int) -> Column:
        """Codes of its levels, of all others together, and beyond them what has no feature, or is missing."""
        encoding = self.network.encoding
        category = encoding.categories[c]
        start = encoding.n - sum(one.width for one in encoding.categories[c:])
        levels = (*map(str, category.levels), *(("(others)",) if category.other else ()))
        code = self._codes()[:, c].astype(np.intp) - start
        return Column(name, np.where((code < 0) | (code >= len(levels)), len(levels), code), levels)

    def cells(self, row: int) -> list[str]:
        return [self.take(np.array([row])).column(j).text(0) for j in range(len(self.names))]


def _encoded(encoding: TableEncoding, name: str) -> tuple[list[int], list[int]]:
    """Where the numbers of a raw column are, the number itself first and then whether it is missing; and its codes."""
    numbers = [i for i, one in enumerate((*encoding.numbers, *encoding.indicators)) if one == name]
    return numbers, [c for c, one in enumerate(encoding.categories) if one.name == name]


def store_of(X: Any) -> Store | None:
    """The store that X is, or is the path of; None for any other table."""
    if isinstance(X, Store):
        return X
    paths = [X] if isinstance(X, (str, os.PathLike)) else X
    if not isinstance(paths, Sequence) or len(paths) != 1 or not isinstance(paths[0], (str, os.PathLike)):
        return None
    return open_store(paths[0]) if is_store(paths[0]) else None


def rows_of_store(network: TableNetwork, store: Store, most: int, notes: list[str]) -> StoredRows:
    """Its held-out rows, at most so many: they lie in a random order, so the first ones are drawn at random."""
    check_same(network, store)
    m = store.held_out.m
    if not m:
        raise InputError(f"the store {store.path} has no held-out rows to explain; explain the table itself.")
    which = f"The first {most:,} of the {m:,}" if m > most else f"The {m:,}"
    notes.append(
        f"{which} held-out rows of the store are explained, in its order, which is random; numbers are what it keeps."
    )
    return StoredRows(network, store.held_out.arrays(slice(0, min(m, most))))
