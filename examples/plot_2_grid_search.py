"""
A pipeline, and a search of its parameters
==========================================

The estimators take part in scikit-learn's pipelines and searches as any others do.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fullbatch as fb

X, y = load_breast_cancer(return_X_y=True)
network = fb.MLPClassifier(max_iter=40, learning_rate="linear", batch_size=32, random_state=0)
grid = {
    "mlpclassifier__hidden_layer_sizes": [(), (16,), (32, 16)],
    "mlpclassifier__alpha": [1e-4, 1e-1, 1.0, 10.0],
}
search = GridSearchCV(make_pipeline(StandardScaler(), network), grid, scoring="neg_log_loss", cv=3).fit(X, y)
print(search.best_params_, f"log-loss {-search.best_score_:.4f}")

# %%
# Each line is a network; L2 helps the larger ones.

figure, axes = plt.subplots()
for hidden in grid["mlpclassifier__hidden_layer_sizes"]:
    of = [p["mlpclassifier__hidden_layer_sizes"] == hidden for p in search.cv_results_["params"]]
    losses = -search.cv_results_["mean_test_score"][of]
    axes.plot(grid["mlpclassifier__alpha"], losses, marker="o", label=f"hidden layers {hidden}")
axes.set(xlabel="alpha (L2)", ylabel="log-loss, of three folds", xscale="log")
axes.legend()
plt.show()
