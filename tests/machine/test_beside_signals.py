"""Fits and loads while a signal's handler runs every two milliseconds, and eight fits at once."""

from __future__ import annotations

import signal
import sys
import threading

import numpy as np
import pytest

import fullbatch as fb

X = np.random.default_rng(0).standard_normal((600, 8))
Y = (X[:, 0] * X[:, 1] > 0).astype(int)


def fitted(solver="adam"):
    return fb.MLPClassifier(
        hidden_layer_sizes=(20,), solver=solver, max_iter=15, learning_rate="linear", random_state=0, n_jobs=2
    ).fit(X, Y)


def weights(model):
    return [array.tobytes() for array in (*model.coefs_, *model.intercepts_)]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGALRM")
@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
def test_a_handler_every_two_milliseconds_changes_nothing(tmp_path):
    truth = {solver: weights(fitted(solver)) for solver in ("adam", "lbfgs")}
    path, calls = tmp_path / "model", []
    before = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        for solver, expected in truth.items():
            model = fitted(solver)
            fb.save(model, path)
            assert weights(model) == weights(fb.load(path)) == expected
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert calls


def test_eight_fits_at_once_have_the_bits_of_one():
    expected, found = weights(fitted()), []
    threads = [threading.Thread(target=lambda: found.append(weights(fitted()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 8
