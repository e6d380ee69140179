"""Each test that docs/promises.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "promises.md"


@pytest.mark.skipif(not PAGE.exists(), reason="an installed copy has no pages")
def test_each_promise_names_tests_that_are_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 30
    lacking = [
        f"{file}::{test}"
        for file, test in named
        if not re.search(rf"^ *def {test}\(", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert lacking == []


@pytest.mark.skipif(not PAGE.exists(), reason="an installed copy has no pages")
def test_each_promise_names_a_test():
    promised = PAGE.read_text(encoding="utf-8").split("## Not promised")[0]
    promises = [part for mark in ("- ", "## ") for part in re.split(f"^(?={mark})", promised, flags=re.MULTILINE)[1:]]
    assert len(promises) > 15
    assert [promise for promise in promises if not re.search(r"`tests/[\w/]+\.py::\w+`", promise)] == []
