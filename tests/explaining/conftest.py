"""What all tests of explanations share."""

from __future__ import annotations

import warnings

import pytest


@pytest.fixture(autouse=True)
def quietly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few epochs are no training
        yield
