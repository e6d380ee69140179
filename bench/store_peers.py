"""A table larger than memory, learned from Parquet by what people use: run by hand, for it takes minutes and much disk.

    python -m bench.store_peers --rows 24000000 --folder /tmp/peers
    python -m bench.store_peers --train flights-late-train.parquet --times 10 --test flights-late-test.parquet

The rows are those of ``store_at_scale``, or those of a file so many times over. All contenders learn a network of one
hidden layer of 64 units by Adam in batches of 1,000 at rate 0.001: fullbatch from a store, whose making is measured
apart; PyTorch and scikit-learn's partial_fit row group by row group, whose rows they shuffle. XGBoost goes through
``ExtMemQuantileDMatrix`` on the CPU for 100 trees. Each is a process of its own, whose peak of anonymous memory is
looked at every 10 ms; log-loss is that on other rows. ``epochs`` are the seconds on a core of all threads, from the
start of the process to the end of each epoch. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.own import EachModel
from bench.store_at_scale import Given, make, measured, watched

TARGET, UNITS, BATCH, RATE, TREES = "late", 64, 1000, 1e-3, 100


class Group(NamedTuple):
    """A row group as a network takes it: scaled numbers, each text's number among all texts' levels, the target."""

    numbers: np.ndarray
    codes: np.ndarray
    y: np.ndarray


class Table:
    """A Parquet file, so many times over: what a user of PyTorch or scikit-learn has to write before any training."""

    def __init__(self, path: Path, times: int = 1) -> None:
        from pyarrow import parquet, types

        self.path, self.times = path, times
        fields = [field for field in parquet.read_schema(self.path) if field.name != TARGET]
        self.texts = [field.name for field in fields if types.is_large_string(field.type)]
        self.numbers = [field.name for field in fields if field.name not in self.texts]

    def tables(self, times: int | None = None) -> Iterator[Any]:
        from pyarrow import parquet

        for _ in range(self.times if times is None else times):
            with parquet.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    yield file.read_row_group(group)

    def learn(self) -> None:
        """One pass for mean, spread and levels."""
        rows, sums, squares = 0, np.zeros(len(self.numbers)), np.zeros(len(self.numbers))
        levels: dict[str, set[str]] = {name: set() for name in self.texts}
        for table in self.tables(1):
            values = self._numbers(table).astype(np.float64)
            rows, sums, squares = rows + len(values), sums + values.sum(0), squares + (values**2).sum(0)
            for name in self.texts:
                levels[name].update(table[name].unique().to_pylist())
        self.mean = (sums / rows).astype(np.float32)
        self.spread = np.sqrt(squares / rows - (sums / rows) ** 2).astype(np.float32)
        self.levels = {name: sorted(found) for name, found in levels.items()}

    def _numbers(self, table: Any) -> np.ndarray:
        return np.stack([table[name].to_numpy() for name in self.numbers], axis=1, dtype=np.float32, casting="unsafe")

    def groups(self) -> Iterator[Group]:
        import pyarrow as pa
        from pyarrow import compute

        for table in self.tables():
            codes, first = [], 0
            for name in self.texts:
                found = compute.index_in(table[name], pa.array(self.levels[name], pa.large_string()))
                codes.append(found.to_numpy() + first)
                first += len(self.levels[name])
            y = table[TARGET]
            y = compute.equal(y, "yes") if self.texts else y
            target = y.to_numpy().astype(np.float32)
            of_texts = np.stack(codes, axis=1) if codes else np.empty((len(target), 0), np.int64)
            yield Group((self._numbers(table) - self.mean) / self.spread, of_texts, target)

    def like(self, learned: Table) -> Table:
        self.mean, self.spread, self.levels = learned.mean, learned.spread, learned.levels
        return self


def log_loss(tables: Table, probability: Callable[[Group], np.ndarray]) -> float:
    """Of rows that nobody learned from."""
    from sklearn.metrics import log_loss as scored

    groups = list(tables.groups())
    return float(scored(np.concatenate([g.y for g in groups]), np.concatenate([probability(g) for g in groups])))


def both(folder: Path, given: Given) -> tuple[Table, Table]:
    table = Table(folder / "table.parquet", given["times"])
    table.learn()
    return table, Table(folder / "test.parquet").like(table)


# --- The contenders -------------------------------------------------------------------------------------------------


def convert(folder: Path, given: Given) -> None:
    from fullbatch.tables.store import convert as write_store

    paths = [folder / "table.parquet"]
    for again in range(1, given["times"]):
        paths.append(folder / f"table-{again}.parquet")
        paths[-1].symlink_to(paths[0].resolve())
    write_store(paths, folder / "table.store", TARGET, validation=0.0)


def fullbatch(folder: Path, given: Given) -> dict[str, Any]:
    """The store's rows. The loss after each epoch is that of the model as it was then, looked at after the training."""
    import fullbatch as fb

    seconds, models = list[float](), list[Any]()

    def note(model: Any) -> None:
        seconds.append(time.process_time())
        models.append(model)

    options: dict[str, Any] = {"batch_size": BATCH, "learning_rate": RATE, "l2": 0.0, "validation": 0.0}
    with fb.open_store(folder / "table.store") as store:
        fb.TableClassifier((UNITS,), epochs=given["epochs"], **options).set_callbacks(EachModel(note)).fit(store)
    losses = [model.evaluate(folder / "test.parquet")["log_loss"] for model in models]
    return {"epochs": seconds, "log_losses": losses, "log_loss": losses[-1]}


def pytorch(folder: Path, given: Given) -> dict[str, Any]:
    import torch

    table, test = both(folder, given)
    torch.manual_seed(0)
    of_numbers = torch.nn.Linear(len(table.numbers), UNITS)
    of_levels = torch.nn.EmbeddingBag(max(1, sum(map(len, table.levels.values()))), UNITS, mode="sum")
    last = torch.nn.Linear(UNITS, 1)
    parts = [of_numbers, last, *([of_levels] if table.texts else [])]
    optimizer = torch.optim.Adam([p for part in parts for p in part.parameters()], lr=RATE)

    def z(numbers: Any, codes: Any) -> Any:
        hidden = of_numbers(numbers) + of_levels(codes) if table.texts else of_numbers(numbers)
        return last(torch.relu(hidden))[:, 0]

    seconds = []
    for _ in range(given["epochs"]):
        for group in table.groups():
            numbers, codes, y = map(torch.from_numpy, group)
            for rows in torch.randperm(len(y)).split(BATCH):
                optimizer.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(z(numbers[rows], codes[rows]), y[rows])
                loss.backward()
                optimizer.step()
        seconds.append(time.process_time())
    with torch.no_grad():
        found = log_loss(test, lambda g: torch.sigmoid(z(*map(torch.from_numpy, g[:2]))).double().numpy())
    return {"epochs": seconds, "log_loss": found}


def scikit_learn(folder: Path, given: Given) -> dict[str, Any]:
    from scipy import sparse
    from sklearn.neural_network import MLPClassifier

    table, test = both(folder, given)
    levels = sum(map(len, table.levels.values()))

    def features(group: Group) -> Any:
        if not table.texts:
            return group.numbers
        m, k = group.codes.shape
        ones = np.ones(m * k, np.float32)
        hot = sparse.csr_matrix((ones, group.codes.ravel(), np.arange(0, m * k + 1, k)), shape=(m, levels))
        return sparse.hstack([sparse.csr_matrix(group.numbers), hot], format="csr")

    model = MLPClassifier((UNITS,), batch_size=BATCH, learning_rate_init=RATE, alpha=0.0, random_state=0)
    seconds = []
    for _ in range(given["epochs"]):
        for group in table.groups():
            model.partial_fit(features(group), group.y, classes=[0.0, 1.0])
        seconds.append(time.process_time())
    found = log_loss(test, lambda group: model.predict_proba(features(group))[:, 1].astype(np.float64))
    return {"epochs": seconds, "log_loss": found}


def xgboost(folder: Path, given: Given) -> dict[str, Any]:
    """Texts as categories, whose levels are those of a pass before."""
    import pandas as pd
    import xgboost as xgb

    table, test = both(folder, given)

    def frame(group: Group) -> Any:
        data = pd.DataFrame(group.numbers, columns=table.numbers)
        first = 0
        for j, name in enumerate(table.texts):
            codes = group.codes[:, j] - first
            data[name] = pd.Categorical.from_codes(codes, categories=table.levels[name])
            first += len(table.levels[name])
        return data

    class Groups(xgb.DataIter):
        def __init__(self) -> None:
            self.left = table.groups()
            super().__init__(cache_prefix=str(folder / "cache"))

        def next(self, input_data: Any) -> bool:
            group = next(self.left, None)
            if group is not None:
                input_data(data=frame(group), label=group.y)
            return group is not None

        def reset(self) -> None:
            self.left = table.groups()

    data = xgb.ExtMemQuantileDMatrix(Groups(), enable_categorical=True)
    params = {"objective": "binary:logistic", "tree_method": "hist", "learning_rate": 0.1}
    model = xgb.train(params, data, num_boost_round=TREES)

    def probability(group: Group) -> np.ndarray:
        return model.predict(xgb.DMatrix(frame(group), enable_categorical=True)).astype(np.float64)

    return {"log_loss": log_loss(test, probability)}


STEPS: dict[str, Callable[[Path, Given], Any]] = {
    "convert": convert,
    "fullbatch": fullbatch,
    "PyTorch": pytorch,
    "scikit-learn": scikit_learn,
    "XGBoost": xgboost,
}


def step(name: str, folder: str, given: Given) -> dict[str, Any]:
    """What the process of a contender does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that ten epochs are few
        return watched(partial(STEPS[name], Path(folder), given))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=24_000_000)
    parser.add_argument("--train", type=Path, help="the file whose rows are learned; else they are made")
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--only", nargs="*", choices=STEPS)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "store-peers")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True)
    try:
        for name, path in (("table", asked.train), ("test", asked.test)):
            if path is None:
                make(asked.folder, asked.rows if name == "table" else 500_000, name, seed=0 if name == "table" else 1)
            else:
                (asked.folder / f"{name}.parquet").symlink_to(path.resolve())
        for name in asked.only or STEPS:
            of = {"rows": asked.rows, "train": asked.train and asked.train.name, "times": asked.times}
            given = {"step": name, "times": asked.times, "epochs": asked.epochs}
            print(json.dumps({**of, **measured(step, asked.folder, given)}), flush=True)
    finally:
        shutil.rmtree(asked.folder)


if __name__ == "__main__":
    main()
