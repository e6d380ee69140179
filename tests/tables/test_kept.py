"""Columns that are kept beside predictions: what the files have, to the letter, block by block."""

from __future__ import annotations

import gzip

import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from fullbatch.errors import TableError
from fullbatch.tables.kept import Kept, csv_lines

CELLS = 'id,name,n,x,when,gap\n007,"Å, b",1,1.50,2024-01-01,\n12,"a ""q""",2,,2024-01-02,\nx9,,NA,2e3,,\n'


def test_cells_of_a_csv_file_stay_as_they_are(csv):
    names = ["id", "name", "n", "x", "when", "gap"]
    kept = Kept(csv(CELLS), names)
    block = next(kept.blocks(10))
    assert block.column("id").to_pylist() == ["007", "12", "x9"]
    assert block.column("x").to_pylist() == ["1.50", "", "2e3"]
    lines = csv_lines(list(zip(names, block.columns, strict=True))).decode()
    assert lines == CELLS.partition("\n")[2]


def test_a_file_with_types_has_the_numbers_of_a_csv_file_as_numbers(csv):
    found = next(Kept(csv(CELLS), ["id", "name", "n", "x", "when", "gap"]).typed_blocks(10))
    assert found.to_pydict() == {
        "id": ["007", "12", "x9"], "name": ["Å, b", 'a "q"', None], "n": [1, 2, None], "x": [1.5, None, 2000.0],
        "when": ["2024-01-01", "2024-01-02", None], "gap": [None, None, None],
    }  # fmt: skip
    assert str(found.schema.field("n").type) == "int64"


@pytest.mark.parametrize("rows", [1, 7, 1000, 70_000, 200_000])
def test_blocks_have_so_many_rows_whatever_the_file_has(csv, rows):
    m = 150_000
    path = csv("i,t\n" + "".join(f"{i},text {i}\n" for i in range(m)))  # more texts than a raw table keeps
    blocks = list(Kept(path, ["t"]).blocks(rows)) if rows >= 1000 else []
    assert [len(block) for block in blocks[:-1]] == [rows] * (len(blocks) - 1)
    if blocks:
        assert pa.concat_tables(blocks).column("t").to_pylist() == [f"text {i}" for i in range(m)]
    first = next(Kept(path, ["i"]).blocks(rows))
    assert first.column("i").to_pylist() == [str(i) for i in range(min(rows, m))]


def test_types_of_parquet_and_arrow_stay(tmp_path):
    table = pa.table({
        "when": pa.array([0, 86_400, None], pa.timestamp("s")), "day": pa.array([0, None, 2], pa.date32()),
        "level": pa.array(["a", None, "b"]).dictionary_encode(), "n": pa.array([1, None, 3], pa.int8()),
    })  # fmt: skip
    names = ["level", "when", "day", "n"]
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    feather.write_feather(table, tmp_path / "t.arrow")
    for name in ("t.parquet", "t.arrow"):
        found = next(Kept(tmp_path / name, names).typed_blocks(10))
        assert found.to_pydict() == {name: table.column(name).to_pylist() for name in names}
        assert [str(type_) for type_ in found.schema.types] == ["string", "timestamp[s]", "date32[day]", "int8"] or (
            str(found.schema.types[1]) == "timestamp[ms]"  # Parquet has no seconds
        )
    lines = csv_lines([("day", table.column("day")), ("level", table.column("level")), ("n", table.column("n"))])
    assert lines == b"1970-01-01,a,1\n,,\n1970-01-03,b,3\n"
    with pytest.raises(TableError, match="'z' holds list<item: int64>, which a CSV file cannot"):
        csv_lines([("z", pa.chunked_array([pa.array([[1]])]))])


def test_several_files_and_their_folders(tmp_path):
    for year, values in (("2023", [1, 2]), ("2024", [3.5])):
        (tmp_path / f"year={year}").mkdir()
        parquet.write_table(
            pa.table({"x": values, "id": [str(v) for v in values]}), tmp_path / f"year={year}" / "a.parquet"
        )
    found = next(Kept(tmp_path, ["year", "x", "id"]).typed_blocks(10))
    assert found.to_pydict() == {"year": ["2023", "2023", "2024"], "x": [1.0, 2.0, 3.5], "id": ["1", "2", "3.5"]}
    packed = tmp_path / "t.csv.gz"
    packed.write_bytes(gzip.compress(b"a;b\n1;x\n2;y\n"))
    assert next(Kept(packed, ["b"]).blocks(5)).column("b").to_pylist() == ["x", "y"]


def test_what_cannot_be_kept(tmp_path, csv):
    with pytest.raises(TableError, match=r"no column 'nam'\. Did you mean 'name'"):
        Kept(csv(CELLS), ["nam"])
    assert Kept(csv(CELLS), ["n", "n"]).names == ["n"]
