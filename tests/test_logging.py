"""The logger ``fullbatch``: silent by itself, and by its level it tells of trainings and epochs."""

from __future__ import annotations

import logging

import numpy as np

import fullbatch as fb

X, Y = np.random.default_rng(0).random((20, 2)), np.arange(20) % 2


def test_a_training_tells_when_it_begins_and_ends(caplog, capfd):
    model = fb.MLPClassifier((3,), max_iter=2, learning_rate="linear", device="cpu")
    model.fit(X, Y)
    assert capfd.readouterr() == ("", "")
    with caplog.at_level(logging.INFO, logger="fullbatch"):
        model.fit(X, Y)
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2
    assert "adam on 20 rows begins" in caplog.text
    assert f"the {model.step_} step on cpu ended" in caplog.text


def test_debug_tells_of_each_epoch(caplog):
    model = fb.MLPClassifier((3,), max_iter=2, learning_rate="linear", device="cpu")
    with caplog.at_level(logging.DEBUG, logger="fullbatch"):
        model.fit(X, Y)
    told = [record.getMessage() for record in caplog.records if record.levelname == "DEBUG"]
    assert told == [f"MLPClassifier: iteration {i}, cost {cost:.8g}" for i, cost in enumerate(model.loss_curve_, 1)]


def test_gradient_descent_tells_what_ran(caplog):
    net = fb.Network([2, 1])
    with caplog.at_level(logging.INFO, logger="fullbatch"):
        run = fb.gradient_descent(net, net.init(seed=0), X.T, Y[None, :] * 1.0, learning_rate=0.1, iterations=3)
    assert caplog.messages == [f"gradient_descent: 3 updates by the {run.step} step on cpu"]
