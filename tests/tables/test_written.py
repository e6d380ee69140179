"""Which number a text is: strictly, for guesses, and freely, where a number is due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fullbatch as fb
from fullbatch.tables.forms import is_measure
from fullbatch.tables.written import is_marked, number_of, number_written

WRITTEN = {
    "$1,234.50": 1234.5,
    "1 234 567": 1234567.0,
    "1\u00a0234,": None,
    "1\u202f234.5": 1234.5,
    "1'234’567": None,  # One mark stands between all thousands.
    "1'234'567": 1234567.0,
    "12,34": None,  # No thousands, and no decimal comma unless that was said.
    "1,2345": None,
    "€ 5": 5.0,
    "5 €": 5.0,
    "£-5": -5.0,
    "-£5": -5.0,
    "--5": None,
    "-(5)": None,
    "(5)": -5.0,
    "($1,000.25)": -1000.25,
    "(5": None,
    "5)": None,
    "−0.5": -0.5,
    "–7": -7.0,
    "- 7": -7.0,
    "7-": -7.0,
    "-7-": None,
    "+$3": 3.0,
    "5%": 0.05,
    "-12.5 %": -0.125,
    ".5%": 0.005,
    "%": None,
    "$": None,
    "()": None,
    "12 kg": None,
    "31.12.2020": None,
    "2020-01-31": None,
    "555 123 4567": None,
    "": None,
    " $5 ": 5.0,
    "1.5D+03": 1500.0,  # Fortran's
    "-.5d-2": -0.005,
    "2.D3": 2000.0,
    "1D+03": 1000.0,
    "12D4": None,  # A code, as Fortran writes none.
    "D3": None,
    '="00123"': 123.0,  # A text that a spreadsheet keeps.
    '="$1,234.50"': 1234.5,
    '="x"': None,
    '=""': None,
    "1/2": 0.5,
    "3 1/4": 3.25,
    "-3 1/4": -3.25,
    "0/5": 0.0,
    "5/5": 1.0,
    "120/80": None,  # Two numbers.
    "1/0": None,
    "1/2/2024": None,
    "1,23,456": 123456.0,  # by lakhs
    "₹1,23,45,678.5": 12345678.5,
    "1,23,45": None,
    "1\u2009234": 1234.0,
    "12_34": None,  # Python would read it.
}


@pytest.mark.parametrize("text", WRITTEN)
def test_numbers_as_people_write_them(text):
    assert number_written(text) == WRITTEN[text]
    if WRITTEN[text] is not None:
        assert is_marked(text)
        assert number_of(text) is None  # No guess is made of them.


@pytest.mark.parametrize(
    ("text", "number"), [("1.234,5", 1234.5), ("€ 1.234", 1234.0), ("1,5", 1.5), ("(0,5)", -0.5), ("1.5", None)]
)
def test_with_a_decimal_comma(text, number):
    assert number_written(text, ",") == number


@given(st.decimals(-(10**9), 10**9, places=2, allow_nan=False, allow_infinity=False))
def test_what_python_writes_with_thousands_is_read_back(value):
    assert number_written(f"{value:,}") == float(value)
    assert number_written(f"$({abs(value):,})".replace("$(", "($")) == -abs(float(value))
    assert number_written(f"{value}%") == pytest.approx(float(value) / 100, rel=1e-15)
    assert number_written(f"{value:,}".translate(str.maketrans(",.", ".,")), ",") == float(value)


def test_a_column_that_is_to_be_numbers_is_read_so_in_training_and_after(tmp_path):
    rng = np.random.default_rng(0)
    plain = rng.normal(0, 1000, 300).round(2)
    y = (plain > 0).astype(int)
    ways = [f"(${-x:,.2f})" if x < 0 else f"${x:,.2f}" for x in plain.tolist()]
    asked = {"epochs": 3, "random_state": 0}
    by_texts = fb.TableClassifier(numeric=["x"], **asked).fit({"x": ways}, y)
    by_numbers = fb.TableClassifier(numeric=["x"], **asked).fit({"x": plain}, y)
    assert by_texts.columns_[0]["kind"] == "number"
    assert by_texts.columns_[0]["values"] == by_numbers.columns_[0]["values"]  # A range, and no count of levels.
    expected = by_numbers.predict_proba({"x": plain})
    np.testing.assert_array_equal(by_texts.predict_proba({"x": ways}), expected)
    np.testing.assert_array_equal(by_texts.predict_proba({"x": plain}), expected)
    fb.save(by_texts, tmp_path / "x.model")
    np.testing.assert_array_equal(fb.predictor(fb.load(tmp_path / "x.model"))({"x": ways[0]}), expected[0])


@pytest.mark.parametrize("text", ["1" * 60_000 + "x", "1." + "1" * 60_000 + "x", "5 " * 30_000, "1," * 30_000])
def test_a_very_long_text_is_no_number(text):
    """Found in time that grows with its length, where a pattern that tries each of its cuts would not end."""
    assert number_written(text) is None
    assert not is_measure(text)
