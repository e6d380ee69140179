"""How TableClassifier and TableRegressor are fitted: what they share. ``fitted.py`` has what a fitted one is asked."""

from __future__ import annotations

import copy
import os
import warnings
from dataclasses import fields
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.callback import CallbackSupportMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions

from fullbatch.core.activations import ACTIVATIONS
from fullbatch.docstrings import described
from fullbatch.errors import InputError, TableError, TableWarning, check_sizes_of_numbers
from fullbatch.machine.plain_values import json_ready
from fullbatch.sources.stored import Store
from fullbatch.tables import from_store, record
from fullbatch.tables.encoding import TableEncoding
from fullbatch.tables.epochs import TOLD, Epochs, EpochsWithModel, Patience, asks_for_the_model
from fullbatch.tables.fit import Learnable, Settings, learnable, said_of_rows
from fullbatch.tables.fitted import FittedOnTable
from fullbatch.tables.frames import paths_of
from fullbatch.tables.given import (
    name_of_rows,
    name_of_weight,
    read_validation,
    scorable_rows,
    table_of,
    with_target,
)
from fullbatch.tables.large import Given, OfFiles
from fullbatch.tables.network import TableNetwork
from fullbatch.tables.raw import MissingWords, RawTable
from fullbatch.tables.report import report
from fullbatch.tables.roles import Roles
from fullbatch.tables.row_numbers import rows_from
from fullbatch.tables.running_scores import check_counted, kept
from fullbatch.tables.scores import best_threshold, check_metric, check_two_classes
from fullbatch.tables.splits import HoldOut, Split
from fullbatch.tables.store import encoding_of
from fullbatch.tables.target import POISSON, refuse_negative
from fullbatch.tables.trainer import as_usual_for, chosen_by_held_out, ended, network_of, refuse_divergence
from fullbatch.training.checkpoints import is_checkpoint
from fullbatch.training.optimizers import OPTIMIZERS

DEFAULT = Settings()
CHOSEN = (
    "hidden",
    "dropout",
    "epochs",
    "batch_size",
    "learning_rate",
    "l2",
    "retrain",
    "random_state",
)  # by rows and classes, if at all
OF_THE_TRAINING = (*TOLD, "device_", "step_", "precision_", "note_")  # attributes of the network's own estimator


class TableEstimator(CallbackSupportMixin, FittedOnTable):
    """What the two share: parameters, and ``fit``."""

    _task = ""
    # A regression has no threshold, and a classification has one loss alone.
    threshold: Any = None
    loss, quantile, log_target = DEFAULT.loss, DEFAULT.quantile, DEFAULT.log_target
    threshold_: float | None
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden": ["array-like", None],
        "activation": [StrOptions(set(map(str, ACTIVATIONS)))],
        "dropout": [Interval(Real, 0, 1, closed="left"), "array-like", None],
        "solver": [StrOptions({*OPTIMIZERS, "lbfgs"})],
        "epochs": [Interval(Integral, 1, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), StrOptions({"full"}), None],
        "learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "l2": [Interval(Real, 0, None, closed="left"), None],
        "validation": [Interval(Real, 0, 1, closed="left")],
        "split_by": [str, None],
        "group": [str, None],
        "drop": ["array-like"],
        "missing": ["array-like"],
        "keep_missing_words": ["boolean"],
        "retrain": ["boolean"],
        "patience": [Interval(Integral, 1, None, closed="left"), None],
        "metric": [str, None],
        "max_levels": [Interval(Integral, 1, None, closed="left")],
        "categorical": ["array-like"],
        "numeric": ["array-like"],
        "dtype": [StrOptions({"float32", "float64"})],
        "random_state": ["random_state"],
        "memory": [Interval(Real, 0, None, closed="neither")],
        "device": [str],
        "device_memory": [Interval(Real, 0, None, closed="neither"), None],
        "precision": [StrOptions({"tf32"}), None],
        "n_jobs": [Integral, None],
    }

    def _validate_params(self) -> None:
        """What scikit-learn asks before each fit: its constraints let whole numbers of any size through."""
        super()._validate_params()
        check_sizes_of_numbers(self.get_params(deep=False))

    def _keep(self, arguments: dict[str, Any]) -> None:
        """Set the constructor's arguments as attributes, as they are."""
        for name, value in arguments.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    @described({})
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        target: str | None = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        resume: Any = None,
    ) -> Any:
        """Learn from a raw table X of m rows.

        Parameters
        ----------
        X : a table
            A pandas or polars data frame, an Arrow table or record batch, anything with ``__arrow_c_stream__``, a dict
            of columns, a ``RawTable`` (of ``fullbatch.read_table``), an array (m, n), a list of rows, or a path, or
            several, as ``read_table`` takes them; of files that are larger than ``memory`` a piece at a time is in
            memory. A stream is read once. Or a store (``fullbatch.open_store``), alone:
            target, held-out rows and how the columns are understood were decided when it was made.
        y : array-like (m,), optional
            The target, where it is no column of X.
        target : str, optional
            The name of the target's column in X. Either ``y`` or this.
        sample_weight : array-like (m,), or str, optional
            Or the name of a column of X, which then is no feature. Not negative. A weight multiplies the row's cost,
            and counts in the scores of held-out rows; rows of weight 0 are left out, as those without a target are, and
            count for nothing. A TableWarning says how many rows have no target, and which columns cannot be read.
        X_val, y_val : a table and its target, optional
            Rows that choose the epoch, instead of a share of X. The target is a column of X_val, or y_val, as X has it.
            Held-out rows of a class that training has not are left out of the scores, and a TableWarning says so.
        sample_weight_val : array-like, optional
            The weights of X_val. Where ``sample_weight`` is a column of X, they are that of X_val by the same name.
        resume : Checkpoint, optional
            Whose training goes on, to the same bits, with the same table and parameters; ``epochs`` may be more, and
            ``device``, ``device_memory`` and ``n_jobs`` others. ``set_callbacks(checkpoint)`` keeps a training.

        Returns
        -------
        self

        Raises
        ------
        TableError
            For columns that do not fit, both or neither of ``y`` and ``target``, no row that has a target, no held-out
            row of a class that training has.
        ValueError
            For parameters and weights out of range (of which InputError is one).
        DeviceError
            For a device that cannot be used.
        NonFiniteError
            For a cost that stopped being finite.
        """
        given = Given(y, target, sample_weight, X_val, y_val, sample_weight_val)
        if isinstance(X, Store):
            from_store.check_parameters(self, X, given._asdict(), DEFAULT)
            return self._fit_store(X, resume)
        settings = self._settings()
        settings.check(own_rows=X_val is not None)
        if (large := OfFiles.of(X, self.drop, settings)) is not None:
            return self._fit_files(large, given, resume)
        whole, name = with_target(table_of(X, self.drop, self._missing_words()), y, target)
        column = sample_weight if isinstance(sample_weight, str) else None
        self._check_held_out(X_val, y_val, sample_weight_val, column)
        roles = Roles(name, column, self.split_by, self.group, tuple(self.drop))
        weight = self._weights(whole, sample_weight)
        rows = learnable(whole, name, weight, numeric=self.numeric)
        if rows.left_out["without_target"]:
            warnings.warn(f"{said_of_rows(rows.left_out, whole.m)}; they are left out.", TableWarning, stacklevel=3)
        split = self._split(rows, name, settings, X_val)
        data = record.fingerprint(whole, paths_of(X))
        whole, rows = roles.features(whole), rows._replace(table=roles.features(rows.table))
        encoding = self._learn(rows, name, split.train, settings)
        self._check_scores(encoding, settings)
        scored = rows.rows(split.held_out) if len(split.held_out) else None
        if X_val is not None:
            weight_val = sample_weight_val if column is None else column
            scored = self._of_the_user(encoding, X_val, y_val, weight_val, apart=y is not None)
            data["held_out"] = {"rows": scored.table.m + sum(scored.left_out.values()), "left_out": scored.left_out}
        settings = settings.for_rows(len(split.train), self._task, len(encoding.classes))
        held_out_rows = 0 if scored is None else scored.table.m
        scored, others = scorable_rows(encoding, scored)
        made_of = self._made_of(whole, rows, scored, encoding, settings, len(split.train))
        self._describe(encoding, made_of | {
            "data": data, "weight": name_of_weight(sample_weight), "held_out_by": split.how,
            "held_out_rows": held_out_rows, "not_scored": others,
        })  # fmt: skip
        metadata = None if weight is None else {"sample_weight": weight if column else sample_weight}
        hooks = {"X": _again(X, whole), "y": y, "metadata": metadata}
        self._train(encoding, rows.rows(split.train) if len(split.held_out) else rows, scored, settings, hooks, resume)
        return self

    def _fit_files(self, large: OfFiles, given: Given, resume: Any) -> Any:
        """Learn from files that are not read into memory as a whole."""
        warnings.warn(large.said(), TableWarning, stacklevel=4)
        with large.store(given, drop=tuple(self.drop), missing=self._missing_words(), **self._columns()) as store:
            self._fit_store(store, resume)
        self.record_["data"] |= {"files": record.files(large.paths), "store": large.decided_by}
        return self

    def _fit_store(self, store: Store, resume: Any) -> Any:
        """Learn from an encoded table on the disk."""
        encoding = encoding_of(store.content)
        settings = self._settings()
        settings.check(own_rows=False)
        _check_needs(settings, store.held_out.m > 0, f"{store.path} has none")
        self._check_scores(encoding, settings)
        if not kept(store.held_out.m, len(encoding.classes)):
            check_counted(settings.metric, len(encoding.classes))
        settings = as_usual_for(store, settings).for_rows(store.train.m, self._task, len(encoding.classes))
        made_of = {
            **from_store.described(store),
            "versions": record.versions(),
            "parameters": record.parameters(self.get_params(deep=False)),
            "chosen": {name: getattr(settings, name) for name in CHOSEN},
            "held_out_chose": chosen_by_held_out(settings) if store.held_out.m else [],
            "held_out": None,
            "guess": None,
        }
        self._describe(encoding, json_ready(made_of))
        hooks = {"X": store, "y": None, "metadata": None}
        trainer = self._trainer(encoding, settings, keep_best=store.held_out.m > 0)
        trainer._learns_codes = True  # as of any table, whose encoding has the labels
        context = self._fit_trainer(trainer, encoding, settings, hooks, store, resume=resume)
        if store.held_out.m:
            if settings.threshold == "auto":
                self._keep_threshold(from_store.best_threshold(self._network(), store, settings.metric))
            found = from_store.scores(self._network(), store, settings.metric)
            self.record_["held_out"], self.record_["guess"] = map(json_ready, found)
        context.call_on_fit_task_end(estimator=self, **hooks, reconstruction_attributes=dict)
        return self

    def _check_held_out(self, X_val: Any, y_val: Any, sample_weight_val: Any, column: str | None) -> None:
        """InputError, or TableError, where what was said of the rows to hold out contradicts itself."""
        if X_val is None and y_val is not None:
            raise TableError("y_val is the target of X_val, which is missing.")
        if X_val is None and sample_weight_val is not None:
            raise InputError("sample_weight_val is of the rows of X_val, which is missing.")
        if sample_weight_val is not None and column is not None:
            raise InputError(
                f"the weight of X is its column {column!r}, so that of X_val is its own; leave sample_weight_val away."
            )

    def _check_scores(self, encoding: TableEncoding, settings: Settings) -> None:
        """InputError where metric or threshold do not fit the classes: before the training, which may take hours."""
        if settings.metric is not None:
            check_metric(settings.metric, len(encoding.classes))
        if settings.threshold is not None and len(encoding.classes) != 2:
            raise InputError(f"a threshold is of two classes; {encoding.target!r} has {len(encoding.classes)}.")

    def _split(self, rows: Learnable, target: str, settings: Settings, X_val: Any) -> Split:
        if X_val is not None:
            return Split.nothing(rows.table.m, f"those of {name_of_rows(X_val)}")
        rule = HoldOut(settings.validation, settings.split_by, settings.group, settings.random_state)
        split = rule.split(rows.table, target, self._task, rows.kept)
        rule.check_sides(len(split.train), len(split.held_out))
        _check_needs(settings, len(split.held_out) > 0, f"of {rows.table.m:,} rows none is held out")
        return split

    def _of_the_user(self, encoding: TableEncoding, X_val: Any, y_val: Any, weight: Any, *, apart: bool) -> Learnable:
        """The rows of X_val that can be scored."""
        more = [weight] if isinstance(weight, str) else []
        try:
            theirs = read_validation(encoding, X_val, y_val, more, apart=apart)
            rows = learnable(theirs, str(encoding.target), self._weights(theirs, weight))
            with rows_from(0, rows.kept):
                encoding.check(rows.table)
                if self.loss == POISSON:  # whose cost has no place for them; others can tell how far they are
                    refuse_negative(str(encoding.target), rows.table.column(str(encoding.target)), POISSON, log=False)
        except TableError as error:  # Its rows have numbers of their own, so that it has to be named.
            name = name_of_rows(X_val)
            raise error if name in str(error) else TableError(f"{name}: {error}") from None
        if rows.left_out["without_target"]:
            warnings.warn(f"of X_val {said_of_rows(rows.left_out, theirs.m)}.", TableWarning, stacklevel=4)
        return rows

    def _settings(self) -> Settings:
        """The parameters of a training as plain values; a generator, or None, gives the seed that is used."""
        values = {field.name: getattr(self, field.name) for field in fields(Settings)}
        seed = self.random_state
        if not isinstance(seed, Integral):
            seed = check_random_state(seed).randint(2**31)
        hidden = None if self.hidden is None else tuple(int(units) for units in np.ravel(self.hidden))
        rates = self.dropout
        if rates is not None and not isinstance(rates, Real):
            rates = tuple(map(float, rates))
        return Settings(**{**values, "hidden": hidden, "dropout": rates, "random_state": int(seed)})

    def _missing_words(self) -> MissingWords:
        return MissingWords.of(self.missing, keep=self.keep_missing_words)

    def _columns(self) -> dict[str, Any]:
        """What decides how columns are understood."""
        return {"task": self._task, "categorical": tuple(self.categorical), "numeric": tuple(self.numeric)}

    def _learn(self, rows: Learnable, target: str, train: np.ndarray, settings: Settings) -> TableEncoding:
        with rows_from(0, rows.kept):
            return TableEncoding.learn(
                rows.table, target, rows=train, max_levels=settings.max_levels, dtype=settings.dtype,
                loss=settings.loss, log_target=settings.log_target, **self._columns(),
            )  # fmt: skip

    def _made_of(
        self,
        whole: RawTable,
        rows: Learnable,
        scored: Learnable | None,
        encoding: TableEncoding,
        settings: Settings,
        m: int,
    ) -> dict[str, Any]:
        """The record of the model's making, as far as it is known before the first epoch."""
        return json_ready({
            "versions": record.versions(),
            "report": report(
                whole, encoding.target, rows=rows.kept, binned=encoding.binned, **self._columns()
            ).to_dict(),
            "parameters": record.parameters(self.get_params(deep=False)),
            "chosen": {name: getattr(settings, name) for name in CHOSEN},
            "rows": m,
            "left_out": rows.left_out,
            "held_out_chose": [] if scored is None else chosen_by_held_out(settings),
            "unseen": {} if scored is None else encoding.unseen(scored.table),
            "held_out": None,
            "guess": None,
        })  # fmt: skip

    def _train(
        self,
        encoding: TableEncoding,
        rows: Learnable,
        scored: Learnable | None,
        settings: Settings,
        hooks: dict[str, Any],
        resume: Any,
    ) -> None:
        """Fit the network's own estimator on the encoded rows, and keep what it learned."""
        X, y, weight = encoding.encode(rows.table), encoding.encode_target(rows.table), rows.weight
        del rows  # The training needs the encoded rows alone, so the raw ones give their memory back.
        validation = {}
        if scored is not None:
            validation = {
                "X_val": encoding.encode(scored.table),
                "y_val": (y_val := encoding.encode_target(scored.table)),
                "sample_weight_val": self._choosing(scored.weight, y_val, y, weight),
            }
            if settings.threshold == "auto":
                check_two_classes(y_val)
        trainer = self._trainer(encoding, settings, keep_best=scored is not None)
        context = self._fit_trainer(
            trainer, encoding, settings, hooks, X, y, sample_weight=weight, resume=resume, **validation
        )
        if scored is not None:
            if settings.threshold == "auto":
                self._choose_threshold(scored, settings.metric)
            network, metric = self._network(), settings.metric
            self.record_["held_out"] = json_ready(network.evaluate(scored.table, scored.weight, metric))
            self.record_["guess"] = json_ready(network.evaluate_guess(y, scored.table, (weight, scored.weight), metric))
        context.call_on_fit_task_end(estimator=self, **hooks, reconstruction_attributes=dict)

    def _fit_trainer(
        self,
        trainer: Any,
        encoding: TableEncoding,
        settings: Settings,
        hooks: dict[str, Any],
        *examples: Any,
        **more: Any,
    ) -> Any:
        """Fit it, with this estimator's callbacks, whose context is given back."""
        context = self._init_callback_context(max_subtasks=trainer._most_epochs())
        context.call_on_fit_task_begin(estimator=self, **hooks)
        keepers = [one for one in getattr(self, "_skl_callbacks", []) if is_checkpoint(one)]
        for keeper in keepers:
            keeper.carry(model_of=partial(self._at, encoding, settings))
        trainer.set_callbacks(*self._epochs(context, encoding, hooks, settings.patience), *keepers)
        self._in_training = trainer  # what is said before the first epoch is asked of it
        try:
            trainer.fit(*examples, **more)
        finally:
            del self._in_training
        trainer.set_callbacks()  # A model that is saved or pickled has no use for them.
        refuse_divergence(trainer)
        self._take(encoding, trainer, None if settings.threshold == "auto" else settings.threshold)
        self.record_["ended"] = ended(trainer, settings)
        return context

    def _at(self, encoding: TableEncoding, settings: Settings, trainer: Any) -> Any:
        """This estimator as it is at a moment of the training, by the network's estimator: what a checkpoint keeps."""
        model = copy.copy(self)
        for name in ("_skl_callbacks", "_in_training"):
            model.__dict__.pop(name, None)
        model.record_ = {**self.record_, "ended": ended(trainer, settings)}
        model._take(encoding, trainer, None if settings.threshold == "auto" else settings.threshold)
        return model

    def _epochs(
        self, context: Any, encoding: TableEncoding, hooks: dict[str, Any], patience: int | None
    ) -> list[Epochs | Patience]:
        """What ends the training, and tells this estimator's callbacks, some perhaps of a search, of each epoch."""
        last: list[Epochs | Patience] = [] if patience is None else [Patience(patience)]
        callbacks = getattr(self, "_skl_callbacks", [])
        if any(map(asks_for_the_model, callbacks)):

            def network_at(trainer: Any) -> TableNetwork:
                return network_of(encoding, trainer, self.record_)

            return [EpochsWithModel(self, context, hooks, network_of=network_at), *last]
        return [Epochs(self, context, hooks), *last] if callbacks else last

    def _trainer(self, encoding: TableEncoding, settings: Settings, *, keep_best: bool) -> Any:
        """The estimator of numbers that trains the network.

        keep_best : keep the parameters of the epoch whose cost on the held-out rows is the lowest, not the last ones
        """
        # L-BFGS stops by itself. The other solvers run all of their epochs, because their rate falls to 0 in the last
        # one. What ``keep_best`` asks for is early stopping that never stops: the best epoch's parameters are kept.
        # ``Patience`` ends it.
        runs_all_epochs = settings.chooses_epoch
        return self._network_estimator(encoding)(
            hidden_layer_sizes=settings.hidden,
            activation=settings.activation,
            dropout=settings.dropout,
            solver=settings.solver,
            alpha=settings.l2,
            batch_size=settings.batch_size,
            learning_rate="linear",
            learning_rate_init=settings.learning_rate,
            max_iter=settings.epochs,
            tol=0.0 if runs_all_epochs else 1e-6,
            n_iter_no_change=np.inf,
            early_stopping=runs_all_epochs and keep_best,
            retrain=runs_all_epochs and keep_best and settings.retrain,
            scoring="loss",
            random_state=settings.random_state,
            device=settings.device,
            device_memory=settings.device_memory,
            precision=settings.precision,
            n_jobs=settings.n_jobs,
        )

    def _network_estimator(self, encoding: TableEncoding) -> Any:
        """What makes the estimator of numbers."""
        raise NotImplementedError

    def _choosing(
        self, scored: np.ndarray | None, target: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> np.ndarray | None:
        """What each held-out row counts when the epoch is chosen: the cost there is the one that is minimised."""
        return scored

    def _describe(self, encoding: TableEncoding, made_of: dict[str, Any]) -> None:
        """The attributes that tell of the table, and the record of the model's making."""
        self.n_features_in_ = len(encoding.feature_names)
        self.feature_names_in_ = np.array(encoding.feature_names, dtype=object)
        self.record_ = made_of
        self.columns_ = made_of.get("report", {}).get("columns", [])

    def _choose_threshold(self, scored: Learnable, metric: str | None) -> None:
        network = self._network()
        proba, target = network.predict_proba(scored.table), network.encoding.encode_target(scored.table)
        self._keep_threshold(best_threshold(proba, target, metric or "balanced_accuracy", scored.weight))

    def _keep_threshold(self, threshold: float) -> None:
        self.network_.threshold = self.threshold_ = self.record_["chosen"]["threshold"] = threshold

    def _take(self, encoding: TableEncoding, trainer: Any, threshold: float | None = None) -> None:
        """The attributes that the training gives, from the fitted estimator of numbers."""
        self.estimator_ = trainer
        self.network_ = network_of(encoding, trainer, self.record_)
        self.network_.threshold = threshold
        if encoding.task == "classify":
            self.threshold_ = threshold
        self.__dict__.update({name: getattr(trainer, name) for name in OF_THE_TRAINING if hasattr(trainer, name)})


def _again(X: Any, table: RawTable) -> Any:
    """What a caller gave, where it can be read once more; of a stream the table."""
    return X if hasattr(X, "__len__") or isinstance(X, os.PathLike) else table


def _check_needs(settings: Settings, held_out: bool, why_not: str) -> None:
    """InputError where there are no held-out rows, and what was asked for needs some."""
    needs = {"patience": settings.patience is not None, "threshold='auto'": settings.threshold == "auto"}
    for name in (name for name, asked in needs.items() if asked and not held_out):
        raise InputError(f"{name} needs held-out rows, and {why_not}.")
