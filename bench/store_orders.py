"""Mini-batches of a store against a full shuffle, of a table in several orders: run by hand, since it takes minutes.

    python -m bench.store_orders --train flights-late-train.parquet --test flights-late-test.parquet \
        --target late --sort late --sort origin,hour

The table is converted as it lies in its file and sorted by the given columns; a network is trained from each store, and
from the table in memory, whose rows are shuffled as a whole; all are scored on the same other rows. The figures are one
JSON line each: log-loss on the test rows, and the seconds, which on a shared machine say little.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import fullbatch as fb


def fitted(X: Any, seed: int, **given: Any) -> Any:
    """Three epochs of Adam in batches of 1,000, without held-out rows that would choose one of them."""
    options: dict[str, Any] = {"epochs": 3, "batch_size": 1000, "learning_rate": 0.001, "l2": 0.0, "validation": 0.0}
    return fb.TableClassifier((64,), random_state=seed, **options).fit(X, **given)


def of_order(path: Path, target: str, sort: str | None, folder: Path, seed: int) -> Any:
    """A model of the store of the table in an order."""
    from pyarrow import parquet

    from fullbatch.tables.store import convert

    source, out = path, folder / "rows.store"
    if sort is not None:
        source = folder / "sorted.parquet"
        parquet.write_table(parquet.read_table(path).sort_by([(name, "ascending") for name in sort.split(",")]), source)
    convert(source, out, target, validation=0.0, seed=seed)
    with fb.open_store(out) as store:
        return fitted(store, seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--sort", action="append", default=[], help="columns with commas between")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for order in ("in memory", "file", *asked.sort):
        started = time.perf_counter()
        if order == "in memory":
            model = fitted(asked.train, asked.seed, target=asked.target)
        else:
            with tempfile.TemporaryDirectory() as folder:
                sort = None if order == "file" else order
                model = of_order(asked.train, asked.target, sort, Path(folder), asked.seed)
        found = {name: model.evaluate(asked.test)[name] for name in ("m", "log_loss", "auc")}
        line = {"order": order, "seed": asked.seed, **found, "step": model.step_}
        print(json.dumps({**line, "seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    main()
