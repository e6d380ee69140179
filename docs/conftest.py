"""The tables that the pages' examples speak of, in a folder of its own for each page."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest


def write_tables(folder: Path) -> None:
    """Small ones, of a few hundred rows."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    rng = np.random.default_rng(0)

    def flights(m: int) -> pa.Table:
        distance = rng.uniform(100, 3000, m).round()
        carrier = rng.choice(["AA", "BA", "LH"], m)
        start = np.datetime64("2024-01-01T00:00:00") + np.arange(m) * np.timedelta64(9, "h")
        late = np.where(distance / 3000 + (carrier == "BA") + rng.normal(0, 0.3, m) > 0.9, "yes", "no")
        columns = {"departure": start, "carrier": carrier, "distance": distance, "late": late}
        return pa.table({name: pa.array(values) for name, values in columns.items()})

    pa.parquet.write_table(flights(400), folder / "flights.parquet")
    pa.parquet.write_table(flights(80), folder / "test.parquet")
    pa.csv.write_csv(flights(60), folder / "new.csv")
    (folder / "parts").mkdir()
    for name in "ab":
        pa.csv.write_csv(flights(120), folder / "parts" / f"{name}.csv")
    with open(folder / "orders.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["when", "customer", "city", "amount", "fraud"])
        for i in range(300):
            amount = round(float(rng.lognormal(3, 1)), 2)
            city = ("Rome", "Oslo", "unknown", "NA")[i % 4]
            fraud = int(amount > 60 and i % 3 == 0)
            writer.writerow([f"{1 + i % 28:02}/{1 + i % 12:02}/2024", f"c{i % 40}", city, amount, fraud])


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tables(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
