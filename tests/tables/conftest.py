"""What the tests of raw tables share: files to read, a table whose target can be learned, and a model of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from fullbatch import TableClassifier
from fullbatch.tables.raw import RawTable


def plain(table: RawTable, name: str) -> list:
    """A column as Python values, None where missing."""
    column = table.column(name)
    if column.levels is not None:
        return [dict(enumerate(column.levels)).get(int(code)) for code in column.values]
    return [None if gap else value for value, gap in zip(column.values.tolist(), column.missing, strict=True)]


@pytest.fixture
def csv(tmp_path):
    def write(content: str | bytes, name: str = "table.csv") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


ARROW = pa.table(
    {
        "i8": pa.array([1, None, 3], pa.int8()),
        "u64": pa.array([1, 2, 2**64 - 1], pa.uint64()),
        "f16": pa.array(np.array([1, 2, 3], np.float16)),
        "f32": pa.array([1.5, None, 2.5], pa.float32()),
        "bool": pa.array([True, None, False]),
        "text": pa.array(["x", None, "?"]),
        "large": pa.array(["x", "y", "x"], pa.large_string()),
        "view": pa.array(["x", "y", None], pa.string_view()),
        "category": pa.array(["u", None, "v"]).dictionary_encode(),
        "number_category": pa.array([5, 6, None]).dictionary_encode(),
        "truth": pa.array(["true", "FALSE", None]),
        "decimal": pa.array([1, 2, None], pa.decimal128(5, 2)),
        "null": pa.nulls(3),
        "date": pa.array([0, 1, None], pa.date32()),
        "date64": pa.array([0, 86_400_000, None], pa.date64()),
        "timestamp": pa.array([0, 1500, None], pa.timestamp("ms", tz="UTC")),
        "time": pa.array([0, 60, None], pa.time32("s")),
        "duration": pa.array([0, 2_000_000, None], pa.duration("us")),
        "dotted.name": [1, 2, 3],
    }
)


def people(m: int = 600, seed: int = 0) -> RawTable:
    """A table whose target follows from a text, an integer and a number, with some noise."""
    rng = np.random.default_rng(seed)
    town = rng.choice(["Bonn", "Kiel", "Ulm"], m)
    age = rng.integers(18, 80, m)
    income = rng.normal(2.0, 1.0, m) + (town == "Ulm")
    score = income + 0.03 * age + 0.3 * rng.normal(size=m)
    return RawTable.of(
        {
            "town": town,
            "age": age,
            "income": income,
            "pays": np.where(score > 3.6, "yes", "no"),
            "spends": 1e5 * score,
        }
    )


QUICK = {"hidden": (8,), "epochs": 30, "batch_size": 32, "learning_rate": 0.02}


@pytest.fixture(scope="module")
def trained():
    """A model of ``people``, which has learned from 540 rows."""
    return TableClassifier(**QUICK, numeric=["spends"], categorical=["age"]).fit(people(), target="pays")
