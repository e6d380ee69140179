"""What others do with our estimators: each function is a row of docs/neighbours.md, and says what it saw.

    python .ci/neighbours.py [NAME ...]

A row that is no longer so is an AssertionError; what surprised is asserted too, so that one hears when it ends.
"""

from __future__ import annotations

import importlib.metadata
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import cross_val_score

import fullbatch as fb

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 5))
Y = np.where(X[:, 0] + X[:, 1] * X[:, 2] > 0, "yes", "no")
FRAME = pd.DataFrame({"town": RNG.choice(["Bonn", "Ulm"], 300), "x": X[:, 0], "z": X[:, 1]})
QUICK: dict[str, Any] = {"hidden_layer_sizes": (8,), "max_iter": 20, "random_state": 0}


def classifier() -> Any:
    return fb.MLPClassifier(**QUICK).fit(X, Y)


def regressor() -> Any:
    return fb.MLPRegressor(**QUICK).fit(X[:150], X[:150, 0])


def of_a_table() -> Any:
    return fb.TableClassifier(hidden=(8,), epochs=5, batch_size=32, random_state=0).fit(FRAME, Y)


def error_of(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it works now")


def shap() -> str:
    import shap

    model = classifier()
    explained = shap.Explainer(model.predict_proba, X[:50])(X[:5], silent=True)
    found = explained.values.sum(axis=1) + explained.base_values
    np.testing.assert_allclose(found, model.predict_proba(X[:5]), atol=1e-12)
    assert "not callable" in error_of(lambda: shap.Explainer(model, X[:50]))
    table = of_a_table()
    assert "'str' and 'str'" in error_of(
        lambda: shap.Explainer(table.predict_proba, FRAME[:50])(FRAME[:1], silent=True)
    )
    return (
        "Explainer(model.predict_proba, X) adds up to the probabilities; the model itself and text columns it refuses"
    )


def skops() -> str:
    from skops import io

    for model, rows in ((classifier(), X), (of_a_table(), FRAME)):
        data = io.dumps(model)
        other = io.loads(data, trusted=io.get_untrusted_types(data=data))
        np.testing.assert_array_equal(other.predict_proba(rows), model.predict_proba(rows))
    return "dumps and loads to the same bits, with our types trusted by name"


def mlflow() -> str:
    import mlflow.pyfunc

    class Model(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def load_context(self, context: Any) -> None:
            self.model = fb.load(context.artifacts["model"])

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return self.model.predict_proba(model_input)

    model = of_a_table()
    with tempfile.TemporaryDirectory() as folder:
        fb.save(model, f"{folder}/model")
        artifacts = {"model": f"{folder}/model"}
        mlflow.pyfunc.save_model(
            f"{folder}/ml", python_model=Model(), artifacts=artifacts, pip_requirements=["fullbatch"]
        )
        found = mlflow.pyfunc.load_model(f"{folder}/ml").predict(FRAME)
    np.testing.assert_array_equal(found, model.predict_proba(FRAME))
    return (
        "pyfunc around fb.save and fb.load: the same bits; mlflow.sklearn writes skops, and wants skops_trusted_types"
    )


def optuna() -> str:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def by_folds(trial: Any) -> float:
        alpha, units = trial.suggest_float("alpha", 1e-6, 1, log=True), trial.suggest_int("units", 2, 8)
        model = fb.MLPClassifier((units,), alpha=alpha, max_iter=5, random_state=0)
        return float(cross_val_score(model, X, Y, cv=3).mean())

    def by_epochs(trial: Any) -> float:
        model = fb.MLPClassifier(
            (4,), learning_rate_init=trial.suggest_float("rate", 1e-5, 1, log=True), random_state=0
        )
        for epoch in range(6):
            model.partial_fit(X, Y, classes=["no", "yes"])
            trial.report(model.score(X, Y), epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(model.score(X, Y))

    sampler = optuna.samplers.TPESampler(seed=0)
    optuna.create_study(direction="maximize", sampler=sampler).optimize(by_folds, n_trials=4)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(by_epochs, n_trials=8)
    assert {trial.state.name for trial in study.trials} == {"COMPLETE", "PRUNED"}
    return "studies over cross_val_score, and over partial_fit with a pruner"


def imbalanced_learn() -> str:
    from imblearn.ensemble import BalancedBaggingClassifier
    from imblearn.over_sampling import SMOTE, RandomOverSampler
    from imblearn.pipeline import make_pipeline

    rare = X[:, 0] > 1
    make_pipeline(SMOTE(random_state=0), fb.MLPClassifier(**QUICK)).fit(X, rare).predict(X)
    BalancedBaggingClassifier(fb.MLPClassifier(**QUICK), n_estimators=2, random_state=0).fit(X, rare).predict(X)
    table = fb.TableClassifier(hidden=(4,), epochs=2, batch_size=32)
    make_pipeline(RandomOverSampler(random_state=0), table).fit(FRAME, Y).predict(FRAME)
    return "samplers in its pipeline, BalancedBagging; RandomOverSampler before a TableClassifier, texts as they are"


def mapie() -> str:
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import ConformalizedQuantileRegressor, CrossConformalRegressor, SplitConformalRegressor

    logging.disable(logging.INFO)
    split = SplitConformalRegressor(regressor(), confidence_level=0.9, prefit=True)
    low, high = split.conformalize(X[150:250], X[150:250, 0]).predict_interval(X[250:])[1][:, :, 0].T
    assert 0.7 < np.mean((low <= X[250:, 0]) & (X[250:, 0] <= high)) <= 1
    quantiles = [fb.MLPRegressor("quantile", quantile=q, **QUICK).fit(X[:150], X[:150, 0]) for q in (0.05, 0.95, 0.5)]
    by_quantiles = ConformalizedQuantileRegressor(quantiles, confidence_level=0.9, prefit=True)
    by_quantiles.conformalize(X[150:250], X[150:250, 0]).predict_interval(X[250:])
    cross = CrossConformalRegressor(fb.MLPRegressor(**QUICK), confidence_level=0.9, cv=3)
    cross.fit_conformalize(X, X[:, 0]).predict_interval(X[:5])
    sets = SplitConformalClassifier(classifier(), confidence_level=0.9, prefit=True)
    assert sets.conformalize(X[150:], Y[150:]).predict_set(X[:5])[1].shape == (5, 2, 1)
    table = SplitConformalClassifier(of_a_table(), confidence_level=0.9, prefit=True)
    assert "failed a minimal prediction test" in error_of(lambda: table.conformalize(FRAME[150:], Y[150:]))
    return "split, cross and by our quantiles; a fitted model of a table it refuses, after a row of zeros without names"


def dask_ml() -> str:
    import dask.array as da
    from dask_ml.wrappers import Incremental, ParallelPostFit

    lazy, labels = da.from_array(X, chunks=(100, 5)), da.from_array(Y, chunks=100)
    found = ParallelPostFit(fb.MLPClassifier(**QUICK)).fit(X, Y).predict_proba(lazy).compute()
    np.testing.assert_allclose(found, classifier().predict_proba(X), atol=1e-12)
    step = Incremental(fb.MLPClassifier((4,), random_state=0), scoring="accuracy").fit(
        lazy, labels, classes=["no", "yes"]
    )
    assert 0 < step.score(lazy, labels) < 1
    step = Incremental(fb.MLPClassifier((4,), random_state=0)).fit(lazy, labels, classes=["no", "yes"])
    assert "must use the same namespace" in error_of(lambda: step.score(lazy, labels))
    return (
        "ParallelPostFit; Incremental with scoring=: without it, score hands the lazy array to a model fitted on NumPy"
    )


def joblib() -> str:
    import joblib
    from dask.distributed import Client

    def scores() -> tuple[float, ...]:
        return tuple(cross_val_score(fb.MLPClassifier(**QUICK), X, Y, cv=3))

    found = {scores()}
    for backend in ("sequential", "threading", "loky", "multiprocessing"):
        with joblib.parallel_config(backend, n_jobs=2):
            found.add(scores())
    with (
        Client(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None),
        joblib.parallel_config("dask"),
    ):
        found.add(scores())
    assert len(found) == 1
    return "sequential, threading, loky, multiprocessing and dask: the same scores to the bit"


def cloudpickle() -> str:
    import cloudpickle

    own = (lambda Z: np.maximum(Z, 0), lambda Z: (Z > 0) * 1.0)
    model = fb.MLPClassifier((4,), activation=own, max_iter=3, random_state=0).fit(X, Y)
    other = cloudpickle.loads(cloudpickle.dumps(model))
    np.testing.assert_array_equal(other.predict_proba(X), model.predict_proba(X))
    return "estimators, with an activation of lambdas too, which pickle and fb.save refuse"


def skl2onnx() -> str:
    import onnxruntime
    import skl2onnx
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    from fullbatch.saving.onnx import register_converters

    register_converters()
    columns = [("texts", OneHotEncoder(), ["town"]), ("numbers", StandardScaler(), ["x", "z"])]
    pipeline = make_pipeline(ColumnTransformer(columns, sparse_threshold=0), fb.MLPClassifier(**QUICK)).fit(FRAME, Y)
    made = skl2onnx.to_onnx(pipeline, FRAME[:1], target_opset=20, options={"zipmap": False})
    session = onnxruntime.InferenceSession(made.SerializeToString())
    label, proba = session.run(None, {name: FRAME[[name]].to_numpy() for name in FRAME})
    assert label.tolist() == pipeline.predict(FRAME).tolist()
    np.testing.assert_allclose(proba, pipeline.predict_proba(FRAME), atol=1e-12)
    return "a Pipeline of a ColumnTransformer and our estimator: every label, probabilities within 1e-12 in float64"


def fastapi() -> str:
    from fastapi import FastAPI, HTTPException
    from fastapi.testclient import TestClient

    from fullbatch.errors import InputError

    model = of_a_table()
    app, ask = FastAPI(), fb.predictor(model)

    @app.post("/predict")
    def predict(row: dict[str, Any]) -> dict[str, float]:
        try:
            return dict(zip(map(str, ask.classes), ask(row).tolist(), strict=True))
        except InputError as error:
            raise HTTPException(422, str(error)) from None

    rows = FRAME[:20].to_dict("records")
    with TestClient(app) as client:
        found = [list(client.post("/predict", json=row).json().values()) for row in rows]
        wrong = client.post("/predict", json={"town": "Ulm", "y": 1})
    np.testing.assert_array_equal(found, [ask(row) for row in rows])
    assert wrong.status_code == 422
    assert "'x'" in wrong.json()["detail"]
    return "fb.predictor behind a route: the same bits, and a row that does not fit is a 422 that names the column"


def skrub() -> str:
    import skrub

    dates = FRAME.assign(day=pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(300), "D"))
    pipeline = skrub.tabular_pipeline(fb.MLPClassifier(**QUICK)).fit(dates, Y)
    assert pipeline.predict_proba(dates).shape == (300, 2)
    cleaned = skrub.Cleaner().fit_transform(dates)
    fb.TableClassifier(hidden=(4,), epochs=2, batch_size=32).fit(cleaned, Y).predict(cleaned)
    return "tabular_pipeline around an estimator; Cleaner before a TableClassifier, which encodes the rest itself"


def fairlearn() -> str:
    from fairlearn.metrics import MetricFrame
    from fairlearn.postprocessing import ThresholdOptimizer
    from sklearn.metrics import accuracy_score

    model, town, late = classifier(), FRAME["town"], Y == "yes"
    found = MetricFrame(metrics=accuracy_score, y_true=Y, y_pred=model.predict(X), sensitive_features=town)
    assert list(found.by_group.index) == ["Bonn", "Ulm"]
    other = fb.MLPClassifier(**QUICK).fit(X, late)
    by_town = ThresholdOptimizer(estimator=other, prefit=True, predict_method="predict_proba")
    assert by_town.fit(X, late, sensitive_features=town).predict(X, sensitive_features=town).shape == (300,)
    return "MetricFrame; ThresholdOptimizer around a fitted classifier, by its probabilities"


ROWS = {
    "shap": shap, "skops": skops, "mlflow-skinny": mlflow, "optuna": optuna, "imbalanced-learn": imbalanced_learn,
    "mapie": mapie, "dask-ml": dask_ml, "joblib": joblib, "cloudpickle": cloudpickle, "skl2onnx": skl2onnx,
    "fastapi": fastapi, "skrub": skrub, "fairlearn": fairlearn,
}  # fmt: skip


def main() -> None:
    warnings.simplefilter("ignore")
    for name in sys.argv[1:] or ROWS:
        print(f"| {name} | {importlib.metadata.version(name)} | {ROWS[name]()} |", flush=True)


if __name__ == "__main__":
    main()
