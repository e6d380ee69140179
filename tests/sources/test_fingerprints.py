"""A fingerprint follows from the numbers alone: neither from their layout in memory nor from the number of threads."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from fullbatch.sources import Dense, OneHot, Sparse, Subset, fingerprints
from fullbatch.sources.fingerprints import fingerprint, fingerprint_of_array, fingerprint_of_file

TABLE = np.random.default_rng(0).standard_normal((103, 5))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """So that a small table has many."""
    monkeypatch.setattr(fingerprints, "PIECE", 300)


def test_layouts_and_threads_change_nothing():
    one = fingerprint(Dense(TABLE.T), 1)
    assert (one["shape"], one["dtype"]) == ([103, 5], "float64")
    wide = np.zeros((103, 10))
    wide[:, ::2] = TABLE
    for same in (np.asfortranarray(TABLE), wide[:, ::2], TABLE[::-1].copy()[::-1]):
        assert fingerprint(Dense(same.T), 3) == one
    assert fingerprint_of_array(TABLE)["checksum"] == fingerprint_of_array(np.asfortranarray(TABLE), 2)["checksum"]


@pytest.mark.parametrize("row", [0, 7, 8, 50, 102])
def test_one_other_number_is_another_fingerprint(row):
    other = TABLE.copy()
    other[row, 3] = np.nextafter(other[row, 3], 9)
    assert fingerprint(Dense(other.T)) != fingerprint(Dense(TABLE.T))
    swapped = TABLE.copy()
    swapped[[row, 60]] = swapped[[60, row]]
    assert fingerprint(Dense(swapped.T)) != fingerprint(Dense(TABLE.T))
    assert fingerprint(Dense(TABLE.astype(np.float32).T)) != fingerprint(Dense(TABLE.T))


def test_sources_of_every_kind_have_one():
    codes = np.arange(103) % 4
    rows = np.arange(0, 103, 2)
    sparse = scipy.sparse.csr_array(TABLE * (TABLE > 0))
    sources = [Dense(TABLE.T), OneHot(codes, 4, np.float64), Sparse(sparse), Subset(Dense(TABLE.T), rows)]
    found = [fingerprint(source) for source in sources]
    assert found == [fingerprint(source, 2) for source in sources]
    assert len({one["checksum"] for one in found}) == 4
    assert fingerprint(Subset(Dense(TABLE.T), rows[::-1])) != found[3]
    assert fingerprint(OneHot(codes[::-1].copy(), 4, np.float64)) != found[1]
    assert fingerprint(Sparse(scipy.sparse.csr_array(TABLE * (TABLE > 0.1)))) != found[2]


def test_arrays_of_any_library(xp):
    table = xp.array(TABLE)
    one = fingerprint(Dense(table.T))
    assert one["shape"] == [103, 5]
    assert one == fingerprint(Dense(xp.array(TABLE).T))
    host = TABLE.astype(one["dtype"])
    assert one["checksum"] == fingerprint(Dense(host.T))["checksum"]


@pytest.mark.parametrize(("size", "pieces"), [(0, 64), (1, 64), (640, 64), (641, 64), (10_000, 64), (10_000, 1)])
def test_a_file_is_known_by_some_of_its_pieces(tmp_path, monkeypatch, size, pieces):
    monkeypatch.setattr(fingerprints, "PIECE_OF_A_FILE", 10)
    path, data = tmp_path / "data", np.random.default_rng(0).bytes(size)
    path.write_bytes(data)
    one, seen = fingerprint_of_file(path, pieces), np.zeros(size, bool)
    for start in fingerprints._starts_in_file(size, max(2, pieces)):
        seen[start : start + 10] = True
    assert seen.all() if size <= 10 * pieces else seen[:10].all() and seen[-10:].all()
    assert seen.sum() >= min(size, 10 * max(2, pieces)) * 0.6  # drawn ones may lie on one another
    for at in (0, size - 1) if size else ():
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert fingerprint_of_file(path, pieces) != one
    path.write_bytes(data)
    assert fingerprint_of_file(path, pieces) == one
    path.write_bytes(data + b"x")
    assert fingerprint_of_file(path, pieces) != one
