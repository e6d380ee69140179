"""``explain``: what a fitted model makes of its raw columns, and where it is wrong."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fullbatch.errors import InputError
from fullbatch.explaining.asked import Rows, as_estimator, names_of, numbered, rows_of
from fullbatch.explaining.stored import rows_of_store, store_of
from fullbatch.machine.safe_output import PathLike, check_output, replacing
from fullbatch.serving.predictor import Predictor, predictor

SCORED = 200_000  # so many rows are scored at most, which takes a second or two
SAMPLED, LEAST = 10_000, 1000  # so many are permuted at most, and where columns are many
WORK = 10_000_000_000  # of cells that are read: rows times columns, for each column and repeat
GRID = 20  # values of a column for its dependence
LOOKED_AT = 30  # so many columns are looked at for the leading ones where there is no importance
WORST = 20
LINES = 20  # so many columns at most are named where a person looks at what was found
PAGE = "index.html"


class Importance(NamedTuple):
    """How much worse the score becomes when a column's values are permuted: mean and spread over the repeats."""

    column: str
    mean: float
    spread: float
    repeats: tuple[float, ...]


class Dependence(NamedTuple):
    """The mean prediction when all rows get one value of a column.

    labels : the values, as text;  values : as numbers, if they are any
    means : (series, values);  series : the classes that they are the probabilities of, or the target
    """

    column: str
    labels: tuple[str, ...]
    values: tuple[float, ...] | None
    series: tuple[str, ...]
    means: np.ndarray

    @property
    def range(self) -> float:
        return float(np.ptp(self.means, axis=1).max())


class Worst(NamedTuple):
    """A row that is predicted badly: its number from 1 on, among those with a target."""

    row: int
    target: str
    predicted: str
    loss: float
    cells: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class Explanation:
    """What ``explain`` found.

    target, classes, columns : of the model;  metric : by which importance is measured, of which more is better
    importance : the most important column first; None: the target is not known
    dependence : of the leading columns;  worst : the rows with the greatest loss first
    scores : as ``evaluate`` has them; {} without a target;  notes : what was sampled, and how, line by line
    true, predicted : of the rows that were scored: codes and probabilities (m, k), or numbers; None without a target
    weight : what each of these rows counts; None: all the same
    """

    target: str
    classes: tuple[Any, ...]
    columns: tuple[str, ...]
    metric: str
    importance: tuple[Importance, ...] | None
    dependence: tuple[Dependence, ...]
    worst: tuple[Worst, ...]
    scores: Mapping[str, Any]
    notes: tuple[str, ...]
    true: np.ndarray | None = None
    predicted: np.ndarray | None = None
    threshold: float | None = None
    weight: np.ndarray | None = None

    def __repr__(self) -> str:
        """A line for each of the leading columns: a notebook shows it, and all that was found would fill pages."""
        if self.importance is None:
            lines = ["no importance, since the target is not known; the dependence is of:"]
            lines += [f"    {one.column}" for one in self.dependence]
        else:
            shown = self.importance[:LINES]
            width = max((len(one.column) for one in shown), default=0)
            lines = [f"importance, by {self.metric}:"]
            lines += [f"    {one.column:<{width}}  {one.mean:.5f} +- {one.spread:.5f}" for one in shown]
            if len(self.importance) > LINES:
                lines.append(f"    and {len(self.importance) - LINES} more")
        return "\n".join(
            [f"Explanation of {self.target!r}: {lines[0]}", *lines[1:], "save(FOLDER) writes all as a page."]
        )

    def save(self, folder: PathLike) -> Path:
        """Write the page, the plots (PNG) and the tables (CSV) into a folder, which is made; gives the page's path.

        Files of these names are replaced, each when it is whole. InputError where they cannot be written, or without
        matplotlib and jinja2.
        """
        from fullbatch.explaining.figures import figures
        from fullbatch.explaining.page import page

        packages()
        drawn = figures(self)
        files = {f"{name}.png": image for name, (_, image) in drawn.items()}
        files |= {f"{name}.csv": _as_csv(rows) for name, rows in self.tables().items()}
        files[PAGE] = page(self, drawn)
        folder = Path(folder)
        check_folder(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with replacing(folder / name, "the explanation") as file:
                file.write(content)
        return folder / PAGE

    @property
    def worsening(self) -> str:
        """What a permuted column does: "accuracy falls", or of "neg_log_loss" "log_loss rises"."""
        loss = self.metric.removeprefix("neg_")
        return f"{loss} rises" if loss != self.metric else f"{self.metric} falls"

    def tables(self) -> dict[str, list[list[Any]]]:
        """What the CSV files hold, by their names: rows, of which the first is the header."""
        found: dict[str, list[list[Any]]] = {}
        if self.importance is not None:
            repeats = [f"repeat_{i + 1}" for i in range(len(self.importance[0].repeats))]
            rows = [[one.column, one.mean, one.spread, *one.repeats] for one in self.importance]
            found["importance"] = [["column", "mean", "spread", *repeats], *rows]
        rows = [
            [one.column, label, series, float(mean)]
            for one in self.dependence
            for series, means in zip(one.series, one.means, strict=True)
            for label, mean in zip(one.labels, means, strict=True)
        ]
        found["dependence"] = [["column", "value", "of", "mean_prediction"], *rows]
        if self.true is not None:
            found["worst"] = [["row", self.target, "predicted", "loss", *self.columns]]
            found["worst"] += [[one.row, one.target, one.predicted, one.loss, *one.cells] for one in self.worst]
            found["scores"] = [["score", "value"], *([n, v] for n, v in self.scores.items() if np.isscalar(v))]
        if "confusion_matrix" in self.scores:
            names, matrix = names_of(self.classes), self.scores["confusion_matrix"]
            found["confusion"] = [["true / predicted", *names], *([n, *r] for n, r in zip(names, matrix, strict=True))]
        return found


def explain(
    model: Any,
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    metric: str | None = None,
    rows: int | None = None,
    repeats: int = 5,
    columns: int = 6,
    random_state: int = 0,
) -> Explanation:
    """What a fitted model makes of its raw columns, and where it is wrong: importance, dependence, scores, worst rows.

    Parameters
    ----------
    model : estimator
        A fitted MLPClassifier, MLPRegressor, LogisticRegression, TableClassifier or TableRegressor.
    X : a table
        Rows that the model did not learn from, as ``predict`` takes them; a table's model reads files too. Or a store,
        or its path, whose held-out rows are taken, with its targets and weights.
    y : array-like (m,), optional
        The target, where it is no column of X. Without any there is no importance and no score, but dependence.
    sample_weight : array-like (m,), or str, optional
        What each row counts in importance, dependence, scores and plots, or the name of the column of X that has it.
        Rows of weight 0 are left out. Which rows are the worst follows from their losses alone.
    metric : str, optional
        A name of scikit-learn's ``scoring``, by which importance is measured; None: the log-loss, or of numbers R2.
    rows : int, optional
        So many rows, drawn at random, are permuted; None: at most 10,000, fewer where columns are many.
    repeats : int, default=5
        How often each column is permuted: the spread is over these.
    columns : int, default=6
        Of so many leading columns the dependence is computed.
    random_state : int, default=0
        Of the rows that are drawn and of the permutations.

    Returns
    -------
    Explanation
        ``importance``, ``dependence``, ``worst``, ``scores``, ``notes``, ``tables()``, and ``save(folder)``, which
        writes a page that needs no network, plots (PNG) and tables (CSV): for that ``pip install
        'fullbatch[explain]'``.

    Raises
    ------
    InputError
        For a model that is not fitted, columns that do not fit, a class that training had not, a metric that does not
        fit, numbers out of range.

    See Also
    --------
    sklearn.inspection.permutation_importance, sklearn.inspection.partial_dependence : which do the work.

    Notes
    -----
    Importance is of a raw column as a whole: a category is permuted, not its one-hot features. Of columns that say the
    same each one alone may seem of no importance, since the others are still there. Dependence is the mean prediction
    when all rows get one value, also where no such row could be: it says what the model does, not what the world does.

    At most 200,000 rows are scored; ``notes`` says what was drawn.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> y = X[:, 1] > 0
    >>> found = fb.explain(fb.LogisticRegression().fit(X, y), X, y)
    >>> found.importance[0].column, found.dependence[0].column
    ('x1', 'x1')
    """
    _check_counts(rows=rows, repeats=repeats, columns=columns)
    rng, notes = np.random.default_rng(random_state), list[str]()
    whole = _whole(model, X, y, sample_weight, notes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scores that are not defined, and of scikit-learn's on few rows
        scored, numbers = _drawn(whole, SCORED, rng, notes, "Scores, plots and worst rows are")
        known = _scored(scored, numbers)
        most = rows or max(LEAST, min(SAMPLED, WORK // (len(whole.names) ** 2 * repeats * 10)))
        few, _ = _drawn(whole, most, rng, notes, "Importance and dependence are")
        importance = None
        if few.target is None:
            notes.append(f"Importance needs the target {whole.target_name!r}, which is not there: it is left out.")
        else:
            notes.append(f"Each column was permuted {repeats} times (seed {random_state}).")
            importance = _importance(few, metric, repeats, random_state)
        dependence = _dependence(few, importance, columns, notes)
    name = metric or ("neg_log_loss" if whole.classes else "r2")
    return Explanation(
        whole.target_name, whole.classes, whole.names, name, importance, dependence,
        notes=tuple(notes), threshold=whole.threshold, **known,
    )  # fmt: skip


def _whole(model: Any, X: Any, y: Any, sample_weight: Any, notes: list[str]) -> Rows:
    """The rows that can be explained; ``notes`` says which."""
    ask, store = predictor(model), store_of(X)
    if store is not None and isinstance(ask, Predictor):
        raise InputError(f"a store is explained by a model of a table; {type(model).__name__} is one of numbers.")
    if store is not None and not isinstance(ask, Predictor):
        if y is not None or sample_weight is not None:
            raise InputError("target and weights are the store's own, and are not given beside it.")
        return rows_of_store(ask._network, store, SCORED, notes)
    whole = rows_of(ask, X, y, sample_weight)
    if whole.left_out:
        notes.append(f"{whole.left_out:,} rows without a target are left out.")
    if whole.of_weight_0:
        notes.append(f"{whole.of_weight_0:,} rows of weight 0 are left out.")
    if whole.weight is not None:
        notes.append("Rows count by their weights.")
    return whole


def packages() -> None:
    """InputError, with the line for pip, where what draws and writes is missing."""
    from importlib.util import find_spec

    missing = [name for name in ("matplotlib", "jinja2") if find_spec(name) is None]
    if missing:
        which = "which is" if len(missing) == 1 else "which are"
        raise InputError(
            f"an explanation needs {' and '.join(missing)}, {which} not installed: pip install 'fullbatch[explain]'."
        )


def check_folder(folder: Path) -> None:
    """InputError where files cannot be written into it, or where it cannot be made; nothing changes."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"cannot write the explanation to {folder}: it is a file; give the name of a folder.")
    if folder.exists():
        check_output(folder / PAGE, "the explanation")
        return
    there = next(one for one in folder.absolute().parents if one.exists())
    check_output(there / folder.absolute().relative_to(there).parts[0], "the explanation")


def _check_counts(**given: int | None) -> None:
    for name, value in given.items():
        least = 2 if name == "rows" else 1
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise InputError(f"{name} must be an integer of at least {least}; got {value!r}.")


def _drawn(rows: Rows, most: int, rng: np.random.Generator, notes: list[str], what: str) -> tuple[Rows, np.ndarray]:
    """At most so many rows, drawn at random, and their numbers; said in ``notes``."""
    if rows.m <= most:
        return rows, np.arange(rows.m)
    notes.append(f"{what} of {most:,} rows, drawn at random from {rows.m:,}.")
    numbers = np.sort(rng.choice(rows.m, most, replace=False))
    return rows.take(numbers), numbers


def _scored(rows: Rows, numbers: np.ndarray) -> dict[str, Any]:
    """Scores, what was predicted, and the worst rows."""
    from fullbatch.tables.scores import decide, score_classes, score_numbers

    if rows.target is None:
        return {"scores": {}, "worst": (), "true": None, "predicted": None, "weight": None}
    predicted = rows.predict()
    if rows.classes:
        log_proba = np.log(np.maximum(predicted, np.finfo(predicted.dtype).tiny))
        scores = score_classes(log_proba, rows.target, rows.weight, rows.threshold)
        loss = -np.take_along_axis(log_proba, rows.target[:, np.newaxis], axis=1)[:, 0]
        names = names_of(rows.classes)
        true, said = ([names[code] for code in codes] for codes in (rows.target, decide(predicted, rows.threshold)))
    else:
        scores = {"m": rows.m, **score_numbers(predicted, rows.target, rows.weight)}
        loss = np.abs(predicted - rows.target)
        true, said = ([f"{value:.6g}" for value in values.tolist()] for values in (rows.target, predicted))
    worst = np.argsort(-loss, kind="stable")[:WORST].tolist()
    found = [Worst(int(numbers[i]) + 1, true[i], said[i], float(loss[i]), tuple(rows.cells(i))) for i in worst]
    return {"scores": scores, "worst": tuple(found), "true": rows.target, "predicted": predicted, "weight": rows.weight}


def _importance(rows: Rows, metric: str | None, repeats: int, seed: int) -> tuple[Importance, ...]:
    from sklearn.inspection import permutation_importance

    found = permutation_importance(
        as_estimator(rows), numbered(rows), rows.target, scoring=_scorer(rows, metric), n_repeats=repeats,
        random_state=seed, sample_weight=rows.weight,
    )  # fmt: skip
    each = [
        Importance(name, float(mean), float(spread), tuple(map(float, repeated)))
        for name, mean, spread, repeated in zip(
            rows.names, found.importances_mean, found.importances_std, found.importances, strict=True
        )
    ]
    return tuple(sorted(each, key=lambda one: -one.mean))


def _scorer(rows: Rows, metric: str | None) -> Any:
    from sklearn.metrics import log_loss, r2_score

    from fullbatch.tables.scores import check_metric, score_by

    if metric is not None:
        check_metric(metric, len(rows.classes))
        return lambda model, X, y, sample_weight=None: score_by(
            metric, rows.predict(X), y, sample_weight, rows.threshold
        )
    if rows.classes:
        labels = np.arange(len(rows.classes))
        return lambda model, X, y, sample_weight=None: (
            -log_loss(y, rows.predict(X).astype(np.float64), labels=labels, sample_weight=sample_weight)
        )
    return lambda model, X, y, sample_weight=None: r2_score(y, rows.predict(X), sample_weight=sample_weight)


def _dependence(
    rows: Rows, importance: tuple[Importance, ...] | None, most: int, notes: list[str]
) -> tuple[Dependence, ...]:
    """Of the most important columns; without importance, of those whose dependence has the widest range."""
    position = {name: j for j, name in enumerate(rows.names)}
    if importance is not None:
        return tuple(_dependence_on(rows, position[one.column]) for one in importance[:most])
    looked_at = rows.names[:LOOKED_AT]
    if len(looked_at) < len(rows.names):
        notes.append(f"The leading columns are those of the first {LOOKED_AT} with the widest dependence.")
    found = [_dependence_on(rows, position[name]) for name in looked_at]
    return tuple(sorted(found, key=lambda one: -one.range)[:most])


def _dependence_on(rows: Rows, j: int) -> Dependence:
    from sklearn.inspection import partial_dependence

    where, labels, values = rows.column(j).grid(GRID)
    classes = names_of(rows.classes)
    if len(where) < 2:  # a column of one value, of which scikit-learn wants two
        where = np.repeat(where if len(where) else [0], 2)
        labels, values = (labels or ["(missing)"]) * 2, None if values is None else (values or [0.0]) * 2
    average = partial_dependence(
        as_estimator(rows), numbered(rows), [j], custom_values={j: where.astype(np.float64)}, method="brute",
        response_method="predict_proba" if classes else "auto", sample_weight=rows.weight,
    )["average"]  # fmt: skip
    series = classes if len(average) > 1 else classes[-1:] or [rows.target_name]
    return Dependence(
        rows.names[j], tuple(labels), None if values is None else tuple(values), tuple(series), np.asarray(average)
    )


def _as_csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
