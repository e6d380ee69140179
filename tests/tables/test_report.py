"""The report of a table: kinds, the task, and each kind of doubt on a small table that has it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from fullbatch.errors import TableError
from fullbatch.tables.raw import MissingWords, RawTable
from fullbatch.tables.reading import read_table
from fullbatch.tables.report import report
from tables.conftest import people

M = 400
RNG = np.random.default_rng(0)
Y = np.where(np.arange(M) * 7 % 11 < 4, "yes", "no")


def doubts(columns, target="y", **options):
    columns = {**columns, "y": columns.get("y", Y)}
    return report(RawTable.of(columns), target, **options).doubts


def test_kinds():
    day = datetime(2024, 1, 1)
    table = RawTable.of(
        {
            "town": ["Bonn", "Kiel", None, "Ulm"] * 25,
            "hour": [1, 2, 3, 4] * 25,
            "price": [1.5, 2.0, None, 2.5] * 25,
            "big": [10**6, 5, 5, 7] * 25,
            "flag": [True, False, None, True] * 25,
            "when": [day + timedelta(days=i % 9) for i in range(100)],
            "gone": [None] * 100,
            "one": [7] * 100,
            "zip": [70_000, 80_000, 70_001, 70_000] * 25,
            "y": [0.0, 1.0] * 50,
        }
    )
    table = replace(table, left_out={"id": "to be left out"})
    found = report(table, "y", categorical=["zip"])
    assert {column.name: column.kind for column in found.columns} == {
        "town": "category", "hour": "category", "price": "number", "big": "number", "flag": "boolean", "when": "date",
        "gone": "left out", "one": "number", "zip": "category", "y": "target", "id": "left out",
    }  # fmt: skip
    by_name = {column.name: column for column in found.columns}
    assert by_name["town"].values == "3 levels"
    assert by_name["town"].examples == ("Bonn", "Kiel", "Ulm")
    assert by_name["price"].values == "1.5 to 2.5"
    assert by_name["price"].missing == 25
    assert by_name["big"].values == "5 to 1,000,000"
    assert by_name["when"].values == "2024-01-01 to 2024-01-09"
    assert by_name["zip"].why == "by --categorical"
    assert (found.rows, found.target.task) == (100, "classify")
    assert found.target.classes == ((0.0, 50), (1.0, 50))
    assert "--task regress" in found.target.overrule
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("y", "task", "why"),
    [
        (np.arange(200), "regress", "more than 100"),
        (np.arange(200) / 7, "regress", "not whole"),
        (np.arange(200) % 3, "classify", "3 different whole numbers"),
        (np.arange(200) % 2 == 0, "classify", "true and false"),
        (np.where(np.arange(200) % 2, "a", "b"), "classify", "2 different texts"),
        (np.arange(200) % 30 + np.datetime64("2024-01-01"), "regress", "dates"),
    ],
)
def test_tasks(y, task, why):
    goal = report(RawTable.of({"x": RNG.normal(size=200), "y": y}), "y").target
    assert (goal.task, why in goal.why) == (task, True)


def test_what_learn_refuses_is_refused():
    with pytest.raises(TableError, match="'payz'"):
        report(people(50), "payz")


def test_nothing_is_doubted_in_a_clean_table():
    clean = people(600).columns
    clean = RawTable({name: clean[name] for name in ("town", "age", "income", "pays")}, 600)
    assert report(clean, "pays").doubts == ()


def test_one_stray_text_among_numbers():
    numbers = [str(x) for x in np.round(RNG.normal(5, 2, M), 1)]
    numbers[76] = "unknown"
    (found,) = doubts({"income": numbers})
    assert (found.column, found.row, found.value) == ("income", 77, "unknown")
    assert "99.8 % of its values are numbers" in found.what
    assert "--missing unknown" in found.cure
    assert doubts({"income": numbers}, categorical=["income"]) == ()


@pytest.mark.parametrize(
    ("make", "called"),
    [
        (lambda i: f"{i % 28 + 1}.{i % 12 + 1}.2024", "dates"),
        (lambda i: f"{i % 12 + 1:02}/{i % 28 + 1:02}/2024", "dates"),
        (lambda i: f"{i % 12 + 1}:{i % 60:02} AM", "dates"),
        (lambda i: f"{i % 97},{i % 10}", "numbers with"),
        (lambda i: f"${i % 97},{i % 1000:03}.50", "numbers with signs or marks"),
        (lambda i: f"{i % 97}.5%", "numbers with signs or marks"),
    ],
)
@pytest.mark.parametrize("stray", [True, False])
def test_texts_that_are_dates_or_numbers_with_marks(make, called, stray):
    texts = [make(i * 37) for i in range(M)]
    if stray:
        texts[5] = "unclear"
    elif called == "dates":
        assert doubts({"c": texts}) == ()
        return
    (found,) = doubts({"c": texts})
    assert called in found.what
    assert (found.row, found.value) == ((6, "unclear") if stray else (None, None))


def test_dates_that_can_be_read_in_two_ways():
    texts = [f"{i % 12 + 1:02}/{i % 7 + 1:02}/2024" for i in range(M)]
    (found,) = doubts({"d": texts})
    assert "no day is above 12" in found.what
    assert found.cure == (
        "--date-format d=%d/%m/%Y or --date-format d=%m/%d/%Y reads them, --categorical d is quiet about it"
    )
    assert doubts({"d": texts}, categorical=["d"]) == ()
    assert report(RawTable.of({"d": texts}), None).columns[0].kind == "category"
    (found,) = doubts({"my day": [f"{i % 28 + 1}.{i % 7 + 1}.{i % 50:02} 10:20" for i in range(M)]})
    assert "years have two digits" in found.what
    assert found.cure.startswith("--date-format 'my day=%d.%m.%y %H:%M' reads them")
    (found,) = doubts({"d": [f"{i % 9 + 1}-{i % 7 + 1}-{i % 50:02}" for i in range(M)]})
    assert "two digits and no day is above 12" in found.what


@pytest.mark.parametrize("stray", [True, False])
def test_decimal_commas_of_a_semicolon_file(csv, stray):
    texts = [f"{i % 9},{i % 10}" for i in range(M)]
    if stray:
        texts[7] = "unclear"
    content = "x;n\n" + "".join(f"{text};{i}\n" for i, text in enumerate(texts))
    path = csv(content)
    (found,) = [one for one in report(read_table(path)).doubts if one.column == "x"]
    assert found.cure.startswith("--decimal , reads them as numbers")
    assert ("--missing unclear" in found.cure) == stray
    words = MissingWords.of(["unclear"])
    assert [one for one in report(read_table(path, decimal=",", missing=words)).doubts if one.column == "x"] == []
    (found,) = doubts({"x": texts})
    assert found.cure.startswith("--decimal , and --numeric x reads them as numbers")
    # Thousands, and what is quoted in a file whose values commas separate, no option reads.
    (found,) = doubts({"x": [f"{i + 1},{i % 1000:03},000" for i in range(M)]})
    assert "--decimal" not in found.cure
    quoted = csv("x,n\n" + "".join(f'"{i},{i % 10}",{i}\n' for i in range(M)))
    (found,) = [one for one in report(read_table(quoted)).doubts if one.column == "x"]
    assert "--decimal" not in found.cure


def test_what_a_network_sees_of_a_date_is_told():
    days = [datetime(2024, 1, 1) + timedelta(days=2 * i, hours=i) for i in range(M)]
    national = [f"{day:%d/%m/%Y}" for day in days]
    columns = {"a": days, "b": national, "c": [day.time() for day in days], "d": [day - days[0] for day in days]}
    columns["e"] = [days[0]] * M
    found = {column.name: column for column in report(RawTable.of(columns)).columns}
    assert {column.kind for column in found.values()} == {"date"}
    assert [found[name].why for name in "abcde"] == [
        "date: number, weekday, month, hour", "date by %d/%m/%Y: number, weekday, month", "time of day: number, hour",
        "duration: number", "date: number",
    ]  # fmt: skip
    assert found["b"].values == f"{days[0]:%Y-%m-%d} to {days[-1]:%Y-%m-%d}"
    assert found["c"].examples == ("00:00:00", "01:00:00", "02:00:00")
    assert report(RawTable.of(columns), numeric=["a"]).columns[0].why == "by --numeric"


def test_codes_with_leading_zeros_are_left_in_peace():
    assert doubts({"zip": [f"{i % 70:05}" for i in range(M)]}) == ()
    (found,) = doubts({"zip": [f"{i % 70 + 100}" for i in range(M)]})
    assert "--numeric zip" in found.cure


def test_an_index_and_an_id():
    (found,) = doubts({"": np.arange(M)})
    assert "counts the rows, from 0" in found.what
    (found,) = doubts({"id": [f"u{i}" for i in RNG.permutation(M)]})
    assert "another value in each row" in found.what
    assert "--drop id" in found.cure
    (found,) = doubts({"id": RNG.permutation(M) * 1000})
    assert "another value in each row" in found.what
    texts = [f"{i / 7:.5f}" for i in RNG.permutation(M)]
    assert "--numeric x" in doubts({"x": texts})[0].cure
    assert doubts({"x": texts}, numeric=["x"]) == ()  # numbers may all differ


def test_a_column_that_gives_the_target_away():
    noise = RNG.normal(size=M)
    for leak in (np.where(Y == "yes", "paid", "open"), (Y == "yes") + 0.001 * noise):
        (found,) = doubts({"x": noise, "leak": leak})
        assert found.column == "leak"
        assert "AUC 1.000 on held-out rows" in found.what
    inches = np.arange(M) % 77 / 7
    (found,) = doubts({"x": noise, "cm": 2.54 * inches, "y": inches})
    assert found.column == "cm"
    three = np.arange(M) % 3
    (found,) = doubts({"leak": three * 1.5, "x": noise, "y": three})
    assert found.column == "leak"


def test_the_sorted_index_is_both():
    found = doubts({"i": np.arange(M), "y": np.sort(Y)})
    assert ["counts the rows" in one.what for one in found] == [True, False]
    assert "alone predicts" in found[1].what


def test_a_class_that_occurs_once():
    y = Y.tolist()
    y[123] = "yess"
    (found,) = doubts({"x": RNG.normal(size=M), "y": y})
    assert (found.row, found.value) == (124, "yess")
    assert "'yes'" in found.what


def test_spellings():
    town = np.array(["New York", "Bonn", "Kiel"])[np.arange(M) % 3].astype(object)
    town[300] = "new  york"
    (found,) = doubts({"town": town.tolist()})
    assert (found.row, found.value) == (301, "new  york")
    assert "'new  york' (1 row, the first of them row 301) is 'New York' (133 rows)" in found.what


@pytest.mark.parametrize(
    ("moments", "values", "examples"),
    [
        (["9999-12-31T00:00:00", "2024-01-01T00:00:00"], "2024-01-01 to 9999-12-31", ("9999-12-31", "2024-01-01")),
        (["0001-01-01T00:00:00", "9999-12-31T23:59:59"], "0001-01-01 to 9999-12-31 23:59:59", None),
        (["1969-12-31T23:59:59.500000"], "1969-12-31 23:59:59", None),
        (["0000-12-31T00:00:00"], "-62,135,683,200", None),  # datetime has no year 0
    ],
)
def test_dates_are_shown_as_far_as_there_are_some(moments, values, examples):
    column = report(RawTable.of({"t": np.array(moments, "datetime64[us]")})).columns[0]
    assert column.values == values
    assert examples in (None, column.examples)


def test_examples_are_looked_for_where_the_first_rows_have_none(csv):
    (x, column) = report(read_table(csv("x,t\n" + "1,\n" * 5000 + "2,true\n1,false\n"))).columns
    assert (x.examples, column.examples, column.missing) == (("1",), ("true", "false"), 5000)


def test_a_table_of_many_columns_is_looked_at_once_a_column(monkeypatch):
    asked = []
    monkeypatch.setattr("fullbatch.tables.raw.require", lambda *given: asked.append(given))
    report(RawTable.of({f"c{j}": [1, 2, j] for j in range(300)}))
    assert len(asked) < 10  # each looks at all names


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9)],
)
def test_moments_as_numbers(unit, factor):
    moments = (1_700_000_000 + np.arange(M) // 2 * 3600) * factor
    (found,) = doubts({"t": moments[RNG.permutation(M)]})
    assert f"looks like {unit} since 1970, from 2023-11-14" in found.what


def test_many_rows_and_rare_classes_raise_no_doubt():
    rng = np.random.default_rng(1)
    m = 30_000
    rare = rng.random(m) < 0.003
    columns = {"x": rng.normal(size=m) + rare, "c": rng.integers(0, 5000, m).astype(str), "y": rare}
    assert [
        one.column for one in report(RawTable.of({**columns, "c": [f"c{v}" for v in columns["c"]]}), "y").doubts
    ] == []


@pytest.mark.parametrize(
    ("content", "doubted"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n6.1,2.9,virginica\n", "5.1"),
        ("39,State-gov,x\n50,Private,y\n39,State-gov,z\n", "39"),
        ("year,2010,2011\n1,20.5,21\n2,30,2011\n", None),  # years as names
        ("0,1,2\n255,0,3\n0,254,1\n3,7,9\n", None),  # a matrix with numbered columns, as pandas writes it
        ("grade,n\nA,1\nB,2\n", None),
    ],
)
def test_a_file_that_seems_to_have_no_header(csv, content, doubted):
    doubts = [doubt for doubt in report(read_table(csv(content))).doubts if "no header" in doubt.what]
    assert [doubt.column for doubt in doubts] == ([doubted] if doubted else [])


def test_dates_that_are_declared_categories_are_counted_and_shown_as_dates(csv):
    table = read_table(csv("when,x\n2024-01-31,1\n2024-02-01,2\n2024-01-31,3\n,4\n"))
    when, _ = report(table, categorical=["when"]).columns
    assert (when.kind, when.values, when.missing) == ("category", "2 levels", 1)
    assert when.examples == ("2024-01-31", "2024-02-01")
    with pytest.raises(TableError, match="holds dates or times, which are quantities; write what makes a class"):
        report(table.select(np.arange(3)), "when", task="classify")
    assert report(table.select(np.arange(3)), "when").target.overrule == ""


WORDS = ["action", "comedy", "drama", "horror", "music", "sport", "war"]
MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()  # noqa: SIM905


@pytest.mark.parametrize(
    ("make", "called"),
    [
        (lambda i: f"({i}.50)" if i % 3 else f"{i}.50", "numbers with signs or marks"),  # a bookkeeper's minus
        (lambda i: f"{i}.50-" if i % 3 else f"{i}.50", "numbers with signs or marks"),  # SAP's
        (lambda i: f"\u2212{i}.5", "numbers with signs or marks"),  # a typesetter's
        (lambda i: f"$-{i}.50" if i % 3 else f"${i}.50", "numbers with signs or marks"),
        (lambda i: f"{i}.50 EUR", "numbers of the unit 'EUR'"),
        (
            lambda i: f"{i + 1}\u202f{i % 1000:03}\u202f000",
            "numbers with signs or marks",
        ),  # unbroken
        (lambda i: f"{i}.5 kg", "numbers of the unit 'kg'"),
        (lambda i: f"{i}km/h", "numbers of the unit 'km/h'"),
        (lambda i: f"{i}.1{'kM'[i % 2]}", "numbers of the unit 'M' or 'k'"),
        (lambda i: f"{i} days 0{i % 9}:10:20", "durations"),  # as pandas writes a timedelta
        (lambda i: f"{24 + i}:1{i % 6}:20", "durations"),
        (lambda i: f"P{i}DT{i % 24}H", "durations"),
        (lambda i: f"{1900 + i}Q{i % 4 + 1}", "quarters, weeks or the like"),
        (lambda i: f"{1900 + i}-W{i % 52 + 1:02}", "quarters, weeks or the like"),
        (lambda i: f"{i % 28 + 1}. März {1950 + i % 50}", "dates or times"),
        (lambda i: f"2024-0{i % 9 + 1}-{i % 28 + 1:02} 10:20:00 CET", "dates or times"),
        (lambda i: f"{i}.25D+0{i % 5}", "numbers with signs or marks in them, such as '0.25D+00'"),
        (lambda i: f'="{i:05}"', "numbers with signs or marks"),
        (lambda i: f"{i + 1}/{i + 3}", "numbers with signs or marks"),
        (lambda i: f"{i % 9 + 1},{i % 90 + 10},{i + 100}", "numbers with signs or marks"),
        (lambda i: f"{i + 100}".translate(str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")), "numbers"),
        (lambda i: f"{i % 24}h {i % 60}m", "durations"),
        (lambda i: f"{1950 + i % 60}/{(51 + i % 60) % 100:02}", "quarters, weeks or the like"),
        (lambda i: f"{1990 + i // 100}-{i % 100 * 3 + 1:03}", "quarters, weeks or the like"),
        (lambda i: f"FY{1950 + i % 60}", "quarters, weeks or the like"),
    ],
)
def test_texts_in_forms_that_no_number_has(make, called):
    texts = [make(i) for i in range(M)]
    (found,) = doubts({"v": texts})
    assert f"all of them are {called}" in found.what
    assert "--categorical v is quiet about it" in found.cure
    assert [doubt for doubt in doubts({"v": texts}, categorical=["v"]) if "all of them" in doubt.what] == []


@pytest.mark.parametrize(
    ("make", "first"),
    [
        (lambda i: f"<{i % 40 / 8}" if i % 3 == 1 else f"{i}.5", "<0.125"),
        (lambda i: f">{i}", ">0"),
        (lambda i: f"{i}-{i + 10}", "0-10"),
        (lambda i: f"{i + 1}–{i + 6} kg", "1–6 kg"),
        (lambda i: f"{i * 10} g" if i % 2 == 0 else f"{i / 10} kg", "0 g"),
        (lambda i: f"52°{i % 60}'N", "52°0'N"),
        (lambda i: f"52.{i:04}° N", "52.0000° N"),
        (lambda i: f"{100 + i % 60}/{60 + i % 40}", "100/60"),
        (lambda i: f"{i}x{i + 3}", "0x3"),
        (lambda i: f"{i}.25 ± 0.5", "0.25 ± 0.5"),
        (lambda i: f"{i}.25{'*' * (i % 4)}", "1.25*"),
        (lambda i: f"USD {i}", "USD 0"),
        (lambda i: f"{i}+" if i % 20 else "any", "1+"),
    ],
)
def test_numbers_with_something_beside(make, first):
    texts = [make(i) for i in range(M)]
    (found,) = doubts({"v": texts})
    assert "numbers with something beside (units, bounds, ranges)" in found.what
    assert (found.row, found.value) == (texts.index(first) + 1, first)
    assert [doubt for doubt in doubts({"v": texts}, categorical=["v"]) if "beside" in doubt.what] == []


@pytest.mark.parametrize(
    "make",
    [
        lambda i: f"555-{1000 + i % 350}",
        lambda i: f"17-{i % 350:06}",
        lambda i: f"{10001 + i % 350}-{1000 + i % 350}",
        lambda i: f"10.0.{i % 7}.{i % 50}",
        lambda i: f"1.{i % 9}.{i % 13}",
        lambda i: f"00:1B:44:11:3A:{i % 256:02X}",
        lambda i: f"{i % 30 + 1}{'ABCDEFGH'[i % 8]}",
        lambda i: f"SW{i % 20}A {i % 9}AA",
        lambda i: f"N{10000 + i % 350}{'AB'[i % 2]}",
        lambda i: f"{i % 150} Main St",
        lambda i: f"Smith{i % 20}, John{i % 15}",
        lambda i: f"[{i % 350},]",  # as R names the rows of a matrix
    ],
)
def test_codes_and_names_are_not_doubted(make):
    assert doubts({"v": [make(i) for i in range(M)]}) == ()


@pytest.mark.parametrize(
    ("make", "called"),
    [
        (lambda i: json.dumps({"a": i % 99, "b": i % 7}), "JSON"),
        (lambda i: f"[{i % 99}, {i % 7}]", "JSON"),
        (lambda i: ";".join(word for j, word in enumerate(WORDS) if i % 128 >> j & 1) or "none", "lists of words"),
        (lambda i: " | ".join(word for j, word in enumerate(WORDS) if i % 128 >> j & 1) or "none", "lists of words"),
    ],
)
def test_texts_of_parts(make, called):
    (found,) = doubts({"v": [make(i) for i in range(M)]})
    assert f"each its whole text, and its texts are {called}" in found.what
    assert found.cure == "make a column of each part, --categorical v is quiet about it"


@pytest.mark.parametrize(
    ("levels", "one", "other"),
    [
        (["München", "Köln", "MÃ¼nchen", "München"], "MÃ¼nchen", "München"),  # UTF-8 that was read as Windows-1252
        (["München", "Köln", "München", "München"], "München", "München"),
        (["yes", "no", "yes", "y", "0"], "y", "yes"),
        (["Oui", "non", "Oui", "1", "non"], "1", "Oui"),
    ],
)
def test_levels_that_are_written_in_two_ways(levels, one, other):
    (found,) = [
        doubt for doubt in doubts({"v": [levels[i % len(levels)] for i in range(M)]}) if "written" in doubt.what
    ]
    assert found.value == one
    assert f"is {other!r}" in found.what


def test_yes_and_no_alone_and_letters_are_no_two_spellings():
    assert doubts({"v": [["Y", "N"][i % 3 == 0] for i in range(M)]}) == ()
    assert doubts({"v": [["F", "N"][i % 3 == 0] for i in range(M)]}) == ()
    assert doubts({"v": [["yes", "no", "unknown"][i % 7 % 3] for i in range(M)]}) == ()


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "1900-01-01", "1970-01-01"])
def test_days_that_stand_for_missing_ones(csv, day):
    days = [day if i % 5 == 4 else f"201{i % 10}-0{i % 9 + 1}-1{i % 9}" for i in range(M)]
    path = csv("v,n\n" + "".join(f"{one},{i % 7}.5\n" for i, one in enumerate(days)))
    table = read_table(path)
    (found,) = report(table).doubts
    assert (found.row, found.value) == (5, day)
    assert found.cure == f"--missing {day} reads it as missing"
    again = read_table(path, missing=[day])
    assert int(again.column("v").missing.sum()) == M // 5
    assert report(again).doubts == ()
    usual = csv("v,n\n" + "".join(f"{one},{i % 7}.5\n" for i, one in enumerate(days) if one != day))
    assert report(read_table(usual)).doubts == ()


def test_a_zero_far_from_all_other_numbers():
    values = np.array([0.0 if i % 20 == 19 else 60 + i * 7 % 50 for i in range(M)])
    (found,) = doubts({"v": values})
    assert (found.row, found.value) == (20, 0)
    assert "0 stands in 20 rows, first in row 20, and all others go from 60 to 109" in found.what
    assert "--missing 0 reads it as missing, but in all columns of numbers" in found.cure
    rng = np.random.default_rng(0)
    amounts = np.where(rng.random(M) < 0.6, 0, rng.lognormal(7, 1, M))
    counts = rng.poisson(0.7, M)
    far = np.where(values == 0, 0, values - 55)  # of a spread as large as what parts them from 0
    assert doubts({"a": amounts, "b": counts, "c": far}) == ()


def test_versions_that_are_read_as_numbers(csv):
    texts = [f"12.{i % 25}" for i in range(M)]
    rows = "".join(f"{text},{i % 7}.50\n" for i, text in enumerate(texts))
    (found,) = report(read_table(csv("v,price\n" + rows))).doubts
    assert (found.row, found.value) == (11, "12.10")
    assert "'12.10' in row 11 and '12.1' are the same number" in found.what
    assert found.cure == "--categorical v keeps them as texts"
    assert report(read_table(csv("v,price\n" + rows), text=["v"])).doubts == ()
    where = np.flatnonzero(np.arange(M) % 2 == 0)
    assert [doubt.row for doubt in report(read_table(csv("v,price\n" + rows)), rows=where).doubts] == [11]
    odd = report(read_table(csv("v,price\n" + rows)), rows=np.flatnonzero(np.arange(M) % 2 == 1)).doubts
    assert [doubt.row for doubt in odd] == []
    semicolons = csv("v;price\n" + rows.replace(",", ";").replace(".", ","))
    assert [one.value for one in report(read_table(semicolons, decimal=",")).doubts] == ["12,10"]


def test_texts_of_several_lines_are_no_fault_where_versions_are_looked_for(csv):
    """The first rows are cut where a line ends, which may be within a text."""
    text = '"' + "a line\n" * 200 + '"'
    table = read_table(csv("v,text,w\n" + "".join(f"12.{i % 25},{text},1\n" for i in range(M))))
    assert table.m == M
    assert table.column("v").values[10] == 12.1


def test_prices_and_numbers_of_python_are_no_versions(csv):
    rows = "".join(f"{i % 40 / 4:.2f},{i % 40 / 4},{i % 30}0,1.0e{i % 3}\n" for i in range(M))
    assert report(read_table(csv("a,b,c,d\n" + rows))).doubts == ()


@pytest.mark.parametrize("name", ["Total", "grand total:", "Summe"])
def test_a_row_of_totals_by_its_name(csv, name):
    rows = "".join(f"{'pqr'[i % 3]},{i % 17}\n" for i in range(M))
    (found,) = report(read_table(csv(f"town,x\n{rows}{name},\n"))).doubts
    assert (found.row, found.column, found.value) == (M + 1, "town", name)
    assert f"the last row, {M + 1}, is called {name!r}" in found.what
    assert report(read_table(csv(f"town,x\n{name},3\n{rows}{name},3\n"))).doubts == ()


def test_a_row_of_totals_by_its_numbers():
    x, z = np.arange(M) % 17 + 0.5, np.arange(M) % 5
    table = {"x": np.append(x, x.sum()), "z": np.append(z, z.sum()), "town": ["p", "q"] * (M // 2) + [None]}
    (found,) = report(RawTable.of(table)).doubts
    assert (found.column, found.row, found.value) == ("x", M + 1, x.sum())
    assert "its last row, 401, holds 3,364, the sum of all others" in found.what
    table["z"][-1] += 1
    assert "last row" not in str(report(RawTable.of({**table, "w": table["z"]})).doubts)
    sparse = np.zeros(M)
    sparse[[7, -1]] = 5.0  # one number is as large as all others, of which there are few
    assert report(RawTable.of({"x": sparse})).doubts == ()


@pytest.mark.parametrize(
    "make", [lambda i: f"B{i % 50}", lambda i: f"{i % 50}{'ABCD'[i % 4]}", lambda i: f"{i % 9} b {i % 7}"]
)
def test_codes_are_no_units(make):
    assert doubts({"v": [make(i) for i in range(M)]}) == ()


@pytest.mark.parametrize(
    ("make", "format"),
    [
        (lambda i: f"{i % 28 + 1:02}{MONTHS[i % 12].upper()}2024", "%d%b%Y"),  # SAS
        (lambda i: f"{i % 28 + 1:02}{MONTHS[i % 12].upper()}2024:10:20:{i % 60:02}", "%d%b%Y:%H:%M:%S"),
        (lambda i: f"{i % 28 + 1:02}-{MONTHS[i % 12]}-2024", "%d-%b-%Y"),
        (lambda i: f"{MONTHS[i % 12]} {i % 28 + 1}, 2024", "%b %d, %Y"),
        (lambda i: f"{i % 28 + 1} {MONTHS[i % 12]} 2024 10:20", "%d %b %Y %H:%M"),
    ],
)
def test_dates_with_names_of_months_are_dates(make, format):
    texts = [make(i) for i in range(M)]
    column = report(RawTable.of({"v": texts, "y": Y})).columns[0]
    assert column.kind == "date"
    assert column.why.startswith(f"date by {format}: ")
    table = RawTable.of({"v": texts})
    assert table.column("v").values[0] == datetime.strptime(texts[0], format).replace(tzinfo=UTC).timestamp()


def test_the_zone_as_bigquery_writes_it():
    table = RawTable.of({"v": [f"2024-0{i % 9 + 1}-{i % 28 + 1:02} 10:20:30 UTC" for i in range(M)]})
    assert table.column("v").time == "date"
    assert table.column("v").values[0] == datetime(2024, 1, 1, 10, 20, 30, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("make", "option"),
    [
        (lambda i: f"{i % 28 + 1:02}-{MONTHS[i % 12]}-24", "%d-%b-%y"),  # Oracle
        (lambda i: f"{MONTHS[i % 12]}-{i % 50 + 10}", "%b-%y"),  # Excel
        (lambda i: f"{1950 + i % 50}-{i % 12 + 1:02}", "%Y-%m"),
        (lambda i: f"{i % 12 + 1:02}/{1950 + i % 50}", "%m/%Y"),
    ],
)
def test_dates_of_which_something_is_cut_off(make, option):
    (found,) = doubts({"v": [make(i) for i in range(M)]})
    assert found.cure.startswith(f"--date-format v={option} ")
    assert "two digits" in found.what or "no day" in found.what


def test_whole_numbers_that_are_dates(csv):
    days = [20200101 + i % 12 * 100 + i % 28 for i in range(M)]
    (found,) = doubts({"v": days})
    assert found.cure == "--date-format v=%Y%m%d reads them"
    path = csv("v\n" + "".join(f"{day}\n" for day in days))
    column = read_table(path, date_format={"v": "%Y%m%d"}).column("v")
    assert column.values[0] == datetime(2020, 1, 1, tzinfo=UTC).timestamp()
    (found,) = doubts({"v": [202001 + i % 12 + 100 * (i % 48 // 12) for i in range(M)]})
    assert found.cure == "--date-format v=%Y%m reads them"
    assert doubts({"v": [20209999 - i % 300 for i in range(M)]}) == ()


@pytest.mark.parametrize(("mark", "usual"), [(-999, 40), (9999, 50), (99, 5), (-99, 9)])
def test_numbers_that_stand_for_missing_ones(csv, mark, usual):
    values = [mark if i % 9 == 8 else i % usual for i in range(M)]
    (found,) = [one for one in doubts({"v": values}) if "mark" in one.what]
    assert (found.row, found.value) == (9, mark)
    assert f"{mark} stands in {M // 9} rows, first in row 9" in found.what
    for form in ("{}", "{}.0"):
        path = csv("v,n\n" + "".join(f"{form.format(value)},{i % 7}.5\n" for i, value in enumerate(values)))
        (found,) = report(read_table(path)).doubts
        option, words, *_ = found.cure.split()
        assert option == "--missing"
        table = read_table(path, missing=MissingWords.of(words.split(",")))
        assert int(table.column("v").missing.sum()) == M // 9
        assert report(table).doubts == ()


def test_large_numbers_that_are_no_amounts():
    (found,) = doubts({"v": np.array([float(f"{i % 9 + 1}e{i % 80 + 10}") for i in range(M)])})
    assert "texts such as 4E22, which are read as numbers?" in found.what
    (found,) = doubts({"v": np.array([10.0**20 + i * 1e6 for i in range(M)])})
    assert "where a number is not told from the next: an id?" in found.what
    assert doubts({"v": np.array([1.5e9 * (i % 50) for i in range(M)])}) == ()


def test_some_words_among_numbers():
    """Fewer than nine in ten are numbers, but what else there is are a few words."""
    words = ["nil", "unknown", "no entry"]
    texts = [words[i % 3] if i % 4 == 0 else f"{i}.5" for i in range(M)]
    (found,) = [one for one in doubts({"v": texts}) if "texts" in one.what]
    assert "because of 3 texts: 75 % of its values are numbers" in found.what
    assert found.cure.startswith("--missing 'nil,")
    codes = [f"T{i % 50}" if i % 4 == 0 else f"{i}.5" for i in range(M)]
    assert [one for one in doubts({"v": codes}) if "texts" in one.what] == []
