"""Dates from texts, against Python's own datetime."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fullbatch.errors import InputError
from fullbatch.tables.dates import ISO, ISO_TIME, KNOWN, DateFormats, check_format, fitting, kind_of, seconds_of
from fullbatch.tables.raw import RawTable

FORMATS = [
    "%d/%m/%Y", "%m/%d/%Y %I:%M:%S %p", "%d.%m.%Y %H:%M", "%Y%m%d", "%d %b %Y", "%B %d, %Y", "%a %d-%b-%y %H:%M:%S.%f",
    "%Y-%m-%dT%H:%M:%S%z", "%m/%Y", "%Y", "100%% %d.%m.%y", "%I%p %Y", "(%d) [%m] %Y?",
]  # fmt: skip


def seconds(texts, format):
    return seconds_of(pa.array(texts, pa.string()), format).tolist()


def of_python(text, format):
    """The same by Python, or NaN."""
    try:
        moment = datetime.strptime(text, format)
    except ValueError:
        return math.nan
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.datetimes(datetime(1000, 1, 1), datetime(9999, 12, 31)), min_size=1, max_size=8),
    st.sampled_from(FORMATS),
    st.integers(-14 * 60, 14 * 60),
)
def test_what_python_formats_is_read_as_python_reads_it(moments, format, minutes):
    moments = [moment.replace(tzinfo=timezone(timedelta(minutes=minutes))) for moment in moments]
    texts = [moment.strftime(format) for moment in moments]
    np.testing.assert_allclose(seconds(texts, format), [of_python(text, format) for text in texts], rtol=0, atol=1e-4)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.from_regex(r"\A[0-9]{1,2}/[0-9]{1,2}/[0-9]{3,4}( [0-9]{1,2}:[0-9]{1,2})?\Z"), min_size=1))
def test_what_python_refuses_is_refused(texts):
    for format in (
        "%d/%m/%Y",
        "%m/%d/%Y %H:%M",
    ):  # of the same texts: drawing them takes longer than reading
        np.testing.assert_equal(seconds(texts, format), [of_python(text, format) for text in texts], err_msg=format)


@settings(max_examples=100, deadline=None)
@given(st.datetimes(datetime(1, 1, 1, 23), datetime(9999, 12, 30)), st.sampled_from("T "), st.booleans())
def test_iso(moment, between, zoned):
    moment = moment.replace(tzinfo=timezone(timedelta(hours=-3)) if zoned else None)
    expected = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    np.testing.assert_allclose(seconds([moment.isoformat(between)], ISO), [expected], rtol=0, atol=1e-4)


def test_iso_in_full_and_in_short():
    texts = ["1970-01-02", "1970-01-01T01", "1970-01-01 01:00", "1970-01-01T0100+0100", "1970-01-01T00:00:00.25Z"]
    assert seconds(texts, ISO) == [86_400, 3600, 3600, 0, 0.25]
    for text in ("1970-1-2", "1970-01-01T25", "1970-02-30", "1970-01-01T", "x", "", "1970-01-01 00:60", "0000-01-01"):
        assert math.isnan(seconds([text], ISO)[0]), text


def test_iso_times():
    texts = ["10:20", "23:59:59.5", "00:00:01", "24:00", "1:00", "10:20 AM"]
    assert seconds(texts, ISO_TIME)[:3] == [37_200, 86_399.5, 1]
    assert np.isnan(seconds(texts, ISO_TIME)[3:]).all()
    assert fitting(["10:20"], KNOWN) == [ISO_TIME]
    assert fitting(["2:1"], KNOWN) == []
    column = RawTable.of({"t": ["10:20", None]}).column("t")
    assert (column.time, column.format, column.values[0]) == ("clock", None, 37_200)


def test_days_that_are_none():
    texts = ["29/02/2024", "29/02/2023", "31/04/2024", "00/01/2024", "1/1/2024", None, "", "1/1/0000"]
    assert [not math.isnan(one) for one in seconds(texts, "%d/%m/%Y")] == [
        True, False, False, False, True, False, False, False,
    ]  # fmt: skip


def test_times_alone_are_seconds_of_the_day():
    assert seconds(["12:00 AM", "12:30 pm", "1:05 AM"], "%I:%M %p") == [0, 45_000, 3900]
    assert kind_of("%I:%M %p") == "clock"
    assert kind_of("%d/%m/%y") == "date"


@pytest.mark.parametrize(
    ("format", "said"),
    [
        ("%d/%m", "no year"), ("%d %Y", "no month"), ("%q", "the known ones"), ("%", "the known ones"), ("", "no date"),
        ("day", "no date"), ("%d/%d/%Y", "twice"), ("%m %b %Y", "say the same"), ("%M:%S", "no date"),
    ],
)  # fmt: skip
def test_what_is_no_format(format, said):
    with pytest.raises(InputError, match=said):
        check_format(format)


def test_a_day_above_12_has_to_be_somewhere():
    both = ["%d/%m/%Y", "%m/%d/%Y"]
    assert fitting(["01/02/2024", "12/12/2024"], KNOWN) == both
    assert fitting(["01/02/2024", "13/12/2024"], KNOWN) == both[:1]
    assert fitting(["01/02/2024", "12/13/2024"], KNOWN) == both[1:]
    assert fitting(["13/02/2024", "12/13/2024"], KNOWN) == []
    assert fitting(["13/02/24"], KNOWN) == []
    assert fitting(["2024-12-31"], KNOWN) == [ISO]
    assert fitting(["13.02.2024 10:00"], KNOWN) == ["%d.%m.%Y %H:%M"]
    assert fitting(["1:05 AM"], KNOWN) == ["%I:%M %p"]
    assert fitting([], KNOWN) == fitting(["a name"], KNOWN) == []


def test_the_hundred_and_first_text_counts_too():
    assert fitting(["01/02/2024"] * 100 + ["x"], KNOWN) == []


def test_what_was_asked_for_comes_first():
    texts = ["01/02/2024", "03/04/2024"]
    assert len(DateFormats().conclude("d", texts)) == 2
    assert DateFormats.of("%m/%d/%Y").conclude("d", texts) == ["%m/%d/%Y"]
    assert DateFormats(preferred={"d": "%d/%m/%Y"}).conclude("d", texts) == ["%d/%m/%Y"]
    assert DateFormats(guess=False).conclude("d", ["31/12/2024"]) == []
    assert DateFormats(guess=False).conclude("d", ["2024-12-31"]) == [ISO]
    assert DateFormats.of({"d": "%Y"}).named == {"d": "%Y"}
    with pytest.raises(InputError, match="no date format"):
        DateFormats.of(["%Y", "x"])
