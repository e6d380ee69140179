"""A memory map that is larger than memory: mini-batches go through it by windows, and learn as well."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import fullbatch as fb
from fullbatch.machine import memory
from fullbatch.sources import mapped

M, N = 6000, 4


@pytest.fixture
def table(tmp_path, monkeypatch):
    """The map, its target, and the rows that are read of it, window after window."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(M, N)).astype(np.float32)
    X.tofile(tmp_path / "X")
    y = (X[:, 0] - X[:, 1] + 0.5 * rng.normal(size=M) > 0).astype(int)
    monkeypatch.setattr(memory, "IN_MEMORY", X.nbytes - 1)
    monkeypatch.setattr(mapped, "BLOCK", 50 * N * 4)
    monkeypatch.setattr(mapped, "WINDOW", 1000 * N * 4)
    return np.memmap(tmp_path / "X", np.float32, "r", shape=(M, N)), y


def model(**params):
    return fb.MLPClassifier((6,), max_iter=4, learning_rate="linear", random_state=1, tol=0, **params)


@pytest.mark.parametrize("params", [{}, {"early_stopping": True, "batch_size": 64}, {"solver": "sgd"}])
def test_windows_learn_as_well_as_a_full_shuffle(table, monkeypatch, caplog, capsys, params):
    X, y = table
    with caplog.at_level(logging.INFO, "fullbatch"):
        found = model(verbose=True, **params).fit(X, y)
    for said in (found.note_, caplog.text, capsys.readouterr().out):
        assert "shuffled within windows" in said
    whole = model(**params).fit(np.array(X), y)
    assert whole.note_ == ""
    assert found.step_ == whole.step_
    assert found.loss_curve_ != whole.loss_curve_
    assert abs(found.loss_curve_[-1] - whole.loss_curve_[-1]) < 0.01
    again = model(n_jobs=1, **params).fit(X, y)
    assert again.loss_curve_ == found.loss_curve_
    assert all(map(np.array_equal, again.coefs_, found.coefs_))


def test_an_epoch_has_each_row_once_and_no_rows_beyond_a_window(table, monkeypatch):
    X, y = table
    found = []
    chunks = mapped.MappedWindow.chunks

    def noted(self, order, done):
        for before, chunk in chunks(self, order, done):
            found.append(chunk)
            yield before, chunk

    monkeypatch.setattr(mapped.MappedWindow, "chunks", noted)
    model(batch_size=130).fit(X, y)
    epoch = found[: len(found) // 4]
    rows = np.concatenate(epoch)
    assert np.array_equal(np.sort(rows), np.arange(M))
    assert all(len(chunk) % 130 == 0 for chunk in epoch[:-1])
    blocks = [len(np.unique(chunk // 50)) for chunk in epoch]
    assert max(blocks) <= 2 * 20  # those of a window, and what was left of the one before
    assert np.mean(np.diff(epoch[0]) == 1) < 0.05
    assert not np.array_equal(rows, np.concatenate(found[len(epoch) : 2 * len(epoch)]))


@pytest.mark.parametrize("params", [{"solver": "gd"}, {"shuffle": False}, {"batch_size": "full"}, {"solver": "lbfgs"}])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_what_reads_in_sequence_has_the_bits_of_memory_and_no_note(table, params):
    X, y = table
    found, expected = model(**params).fit(X, y), model(**params).fit(np.array(X), y)
    assert found.note_ == ""
    assert all(map(np.array_equal, found.coefs_, expected.coefs_))


def test_smaller_maps_and_arrays_are_shuffled_as_ever(table, monkeypatch):
    X, y = table
    monkeypatch.setattr(memory, "IN_MEMORY", X.nbytes)
    assert model().fit(X, y).loss_curve_ == model().fit(np.array(X), y).loss_curve_
    monkeypatch.setattr(memory, "IN_MEMORY", 1)
    assert model().fit(np.array(X), y).note_ == ""


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_kept_training_goes_on_to_the_same_bits(table, tmp_path):
    X, y = table
    expected = model().fit(X, y)
    half = model().set_params(max_iter=2, learning_rate="constant")
    half.set_callbacks(fb.Checkpoint(tmp_path / "kept", 0)).fit(X, y)
    whole = model().set_params(learning_rate="constant").fit(X, y)
    gone_on = model().set_params(learning_rate="constant").fit(X, y, resume=fb.Checkpoint(tmp_path / "kept"))
    assert gone_on.loss_curve_ == whole.loss_curve_
    assert expected.loss_curve_ != whole.loss_curve_
