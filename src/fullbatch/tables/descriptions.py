"""What the parameters and attributes of a table's estimators mean: ``docstrings.described`` inserts it."""

from __future__ import annotations

from fullbatch.estimators.descriptions import ATTRIBUTES as OF_NUMBERS
from fullbatch.estimators.descriptions import PARAMETERS as SHARED

PARAMETERS = {
    "hidden": """sequence of int or None
        Units of each hidden layer; () is logistic, or linear, regression. None: 128 and 64; 256 and 128 to tell three
        classes or more apart by at most 100,000 rows.""",
    "activation": """str
        Of the hidden layers: "tanh", "sigmoid", "relu", "leaky_relu", "identity", "gelu" or "silu".""",
    "dropout": SHARED["dropout"].replace("float or list of float", "float, list of float or None")
    + """ None: 0.1 to tell classes apart by at
        most 100,000 rows where ``hidden`` is None, by mini-batches on one device; else 0.""",
    "solver": SHARED["solver"],
    "epochs": """int or None
        Passes over the rows to learn from; of L-BFGS and "gd" iterations. None: by their number m, 6000 / sqrt(m) to
        tell classes apart, half as many for a number, within 2 and 200 (of L-BFGS and "gd" 2e7 / m, within 50 and
        200). The rate falls to zero over them.""",
    "batch_size": """int, "full" or None
        Rows of a mini-batch. None: a hundredth of the rows, within 32 and 1000.""",
    "learning_rate": """float or None
        Of the first updates. None: 0.006 for Adam and 0.2 for SGD, times (batch_size / 1000)^(1/4); 0.5 for "gd".""",
    "l2": """float or None
        lambda in (lambda / 2m) sum ||W||^2, m the rows of a batch. None: min(3e-4, 30 / all rows) m.""",
    "validation": """float
        The share of the rows that is held out, to choose the epoch; at least 0, less than 1. They are drawn, from each
        class alike.""",
    "split_by": """str or None
        A column of numbers or dates: the rows with its largest values are held out, as a model that is used later sees
        later rows. It is a feature as any other, since seasons and trends are in it, unless ``drop`` names it too.""",
    "group": """str or None
        A column whose values are groups (of a person, a place): whole groups are held out. It is no feature, since
        what is learned of one group says nothing of those to come.""",
    "retrain": """bool
        Where the best epoch on the held-out rows comes in the first two thirds of ``epochs``, train once more from the
        same start, for as many epochs as were best (at least 3) and with a rate that falls to zero over them; the best
        epoch of both is kept.""",
    "patience": """int or None
        End the training after so many epochs without a better cost on the held-out rows; None: take all epochs.""",
    "metric": """str or None
        A name of scikit-learn's ``scoring``, such as "f1": held-out rows are scored by it besides.""",
    "max_levels": """int
        Levels of a category column; rarer ones share one.""",
    "categorical": """sequence of str
        Columns that are categories, whatever they look like.""",
    "numeric": """sequence of str
        Columns that are numbers, whatever they look like, and nothing beside: neither levels nor bins.""",
    "drop": """sequence of str
        Columns that are not learned from.""",
    "missing": """sequence of str
        More words for a missing value. One that is a number or a date, such as "-999", stands for it among numbers or
        dates too, whatever the table is, in training and after.""",
    "keep_missing_words": """bool
        NA and its like are texts; besides ``missing`` only what is empty is missing.""",
    "class_weight": """dict {class: weight}, "balanced" or None
        It multiplies ``sample_weight``, as in ``MLPClassifier``, and counts where held-out rows choose the epoch.""",
    "threshold": """float, "auto" or None
        Of two classes, the probability from which on the second one is predicted; "auto": that by which the held-out
        rows have the highest ``metric``, or balanced accuracy; None: the more probable class is predicted.""",
    "dtype": """{"float32", "float64"}
        Of the encoded table and of the computation.""",
    "random_state": """int, RandomState or None
        Of the rows that are held out, the first parameters and the order of the rows.""",
    "memory": """float
        Bytes of a table in files, as rows x columns x bytes of a number, that are read into memory. Of a larger one a
        store is made in a temporary folder, learned from and removed, or for up to two iterations of full batches the
        files are read in each; a TableWarning says which.""",
    **{name: SHARED[name] for name in ("device", "device_memory", "precision", "n_jobs")},
}

OF_THE_TRAINING = (
    "n_iter_", "loss_curve_", "validation_costs_", "t_", "retraining_", "device_", "step_", "precision_", "note_",
)  # fmt: skip
ATTRIBUTES = {
    "columns_": """list of dict
        How each column was understood: its ``name``, ``kind`` (number, category, date, boolean, left out or target),
        ``why``, ``values`` ("3 levels", or a range), ``missing`` (how many rows) and some ``examples``.""",
    "record_": """dict
        How the model was made, as its file keeps it: ``versions``, ``data`` (rows, columns and a checksum), ``report``
        (of which ``columns_`` is a part), ``parameters``, ``chosen`` (what None left open), ``rows`` (learned from),
        ``weight`` (its column), ``left_out`` (rows without a target, and of weight 0), ``held_out_by`` (the rule, in
        words), ``held_out_rows`` (how many), ``not_scored`` (classes that only held-out rows have, and how many),
        ``held_out_chose`` (of "epoch" and "threshold"), ``ended`` (the last epoch, and the best), ``unseen`` (columns
        with levels that only held-out rows have: their share, and the first), ``held_out`` and ``guess`` (scores on the
        held-out rows, of the model and of the guess that knows the training targets alone; None where none were held
        out).""",
    "n_features_in_": """int
        Input columns.""",
    "feature_names_in_": """array of str (n,)
        Their names; those of an array are called x0, x1, ...""",
    "network_": """TableNetwork
        What predicts.""",
    "estimator_": """MLPClassifier or MLPRegressor
        What trained the network, on the encoded rows.""",
    **{name: OF_NUMBERS[name] for name in OF_THE_TRAINING},
}
