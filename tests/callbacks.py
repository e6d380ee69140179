"""Callbacks that tests hand to estimators."""

from __future__ import annotations


class At:
    """A callback that does something after an epoch or iteration."""

    def __init__(self, number, act):
        self.left, self.act = number, act

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        self.left -= 1
        if self.left == 0:
            self.act()
