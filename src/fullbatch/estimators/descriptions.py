"""What the estimators' parameters and attributes mean, by their names: ``docstrings.described`` inserts it."""

from __future__ import annotations

PARAMETERS = {
    "hidden_layer_sizes": """int or sequence of int
        Units of each hidden layer; () for none, which is logistic or linear regression.""",
    "activation": """str, pair of functions, or list of these
        Of the hidden layers: "tanh", "sigmoid" (or "logistic"), "relu", "leaky_relu", "identity", "gelu" or "silu"; a
        pair (g, g') of functions of Z, for one of your own; or a list, one for each hidden layer.""",
    "solver": """{"adam", "sgd", "lbfgs", "gd"}
        Adam and SGD go by mini-batches, L-BFGS and "gd", gradient descent (N6), by all rows at once.""",
    "alpha": """float
        L2, lambda in (lambda / 2m) sum ||W||^2, where m is the rows (the sum of their weights) of a batch. Biases are
        not penalised. At least 0.""",
    "dropout": """float or list of float
        The share of the hidden units that each update of the training leaves out, drawn anew for each row; or a list,
        one for each hidden layer. The others' outputs are divided by 1 - ``dropout``; predictions and scores leave
        nothing out. At least 0, below 1; not for "lbfgs".""",
    "C": """float
        1 / L2, as in scikit-learn's class of this name: (1 / 2C) sum ||W||^2 beside the sum of the losses. Above 0;
        ``math.inf`` for no penalty.""",
    "l1_ratio": """float
        Of the penalty, as in scikit-learn's class of this name: ``l1_ratio`` times the L1 norm, (1 / C) sum abs(W), and
        1 - ``l1_ratio`` times L2. Between 0 and 1; above 0 the solver is "lbfgs".""",
    "fit_intercept": """bool
        Whether there is a bias; without it the bias stays 0.""",
    "batch_size": """int, "auto" or "full"
        Rows of a mini-batch: "auto" is min(200, m), "full" all of them. L-BFGS and "gd" take all in any case.""",
    "learning_rate": """{"constant", "invscaling", "adaptive", "linear"}
        How the rate falls: not; as 1 / (rows seen) to the power of ``power_t``, after each epoch; to a fifth where the
        loss has not fallen for ``n_iter_no_change`` epochs; or to zero, update by update, over ``max_iter`` epochs.
        Adam takes "linear" alone and is constant with the others; L-BFGS has no rate.""",
    "learning_rate_init": """float
        The rate of the first updates. Above 0.""",
    "power_t": """float
        The exponent of "invscaling". At least 0.""",
    "max_iter": """int
        Epochs, passes over the rows; of L-BFGS and "gd" iterations, which are the same. At least 1.""",
    "shuffle": """bool
        Draw a new order of the rows for each epoch of mini-batches.""",
    "random_state": """int, RandomState or None
        Of the first weights, the order of the rows and those that ``early_stopping`` splits off. An int gives the same
        training each time, and scikit-learn's own path for the same int.""",
    "tol": """float
        The training ends where the loss (or the score, with ``early_stopping``) has not improved by this much for
        ``n_iter_no_change`` epochs; of L-BFGS, where no component of the gradient is larger. At least 0.""",
    "verbose": """bool or int
        Print a line for each epoch, on stdout.""",
    "warm_start": """bool
        Whether ``fit`` begins with the parameters of the last one, and not with new ones.""",
    "momentum": """float
        Of "sgd". Between 0 and 1.""",
    "nesterovs_momentum": """bool
        Whether the momentum of "sgd" is Nesterov's.""",
    "early_stopping": """bool
        End where the score of held-out rows has not improved for ``n_iter_no_change`` epochs, and keep the parameters
        of the best epoch. The rows are ``X_val`` of ``fit``, or a share that is split off. Not of L-BFGS.""",
    "retrain": """bool
        Where the best epoch comes in the first two thirds of ``max_iter``, train once more from the same start, for as
        many epochs as were best (at least 3) and with a rate that falls to zero over them; the best epoch of both is
        kept. With ``early_stopping`` and ``learning_rate="linear"`` alone, and not with ``warm_start``.""",
    "validation_fraction": """float
        The share that ``early_stopping`` splits off: at least 0, less than 1.""",
    "scoring": """{"loss"} or None
        What ``early_stopping`` watches: None is the score (accuracy, or R2), "loss" the held-out cost.""",
    "beta_1": """float
        Adam's decay of the mean of gradients: at least 0, less than 1.""",
    "beta_2": """float
        Adam's decay of the mean of their squares: at least 0, less than 1.""",
    "epsilon": """float
        What Adam adds to the root that it divides by. Above 0.""",
    "n_iter_no_change": """int or float
        Epochs without improvement that end a training; ``math.inf``: none do.""",
    "max_fun": """int
        Most evaluations of cost and gradient by L-BFGS.""",
    "class_weight": """dict {label: weight}, "balanced" or None
        It multiplies ``sample_weight``. "balanced" is m / (k times the rows of the label), of k labels. A label without
        a weight has 1.""",
    "device": """str
        Where host arrays are computed: "auto" (a GPU where one works, else the CPU), "cpu", "cuda" or "cuda:N"; or
        several GPUs, "cuda:0,cuda:1", which share the leaves of a full batch (L-BFGS, or batch_size="full"), to the
        bits of one.""",
    "device_memory": """float or None
        The most that is taken of a GPU's memory: bytes, or a share of it up to 1; None: what is free, less a reserve.
        X that does not fit is streamed, with the same outcome.""",
    "precision": """{"tf32"} or None
        Of the products in training: None for that of X's dtype; "tf32" is faster on a GPU and off by about 1e-3.""",
    "n_jobs": """int or None
        CPU threads; None for all cores, of which a worker of joblib's has its share. No number of them changes a
        bit.""",
}

ATTRIBUTES = {
    "coefs_": """list of array
        The weights: ``coefs_[l]`` (n[l], n[l+1]) is W[l+1] transposed. They lie where X came from: in its library, on
        its device, of its dtype (float32 or float64).""",
    "intercepts_": """list of array
        The biases: ``intercepts_[l]`` (n[l+1],) is b[l+1].""",
    "n_iter_": """int
        Epochs, or iterations, that were run.""",
    "retraining_": """list of int or None
        With ``retrain``, the epochs that were over when the second training began, and how many it has. None: there
        is none.""",
    "n_features_in_": """int
        Columns of X.""",
    "feature_names_in_": """array of str (n,)
        Their names, where X has any.""",
    "n_layers_": """int
        Layers, that of the inputs too: L + 1.""",
    "n_outputs_": """int
        Output units, n[L].""",
    "out_activation_": """str
        Of the output units: "logistic", "softmax", "identity" or "exp".""",
    "loss_": """float
        The last of ``loss_curve_``.""",
    "loss_curve_": """list of float
        The cost of each epoch, with L2: of mini-batches their mean, taken while the parameters change.""",
    "best_loss_": """float or None
        The least of them; None with ``early_stopping``.""",
    "validation_scores_": """list of float or None
        With ``early_stopping`` the held-out score after each epoch.""",
    "best_validation_score_": """float or None
        The highest of them.""",
    "validation_costs_": """list of float or None
        The cost of held-out rows after each epoch, without L2; None where none were held out.""",
    "t_": """int
        Rows that were learned from, over all epochs.""",
    "device_": """str
        Where the passes ran.""",
    "step_": """str
        Which step ran: "native, avx512" and its kin, "inplace", "array" or one of a GPU.""",
    "precision_": """str
        Of the products there.""",
    "note_": """str
        Why the bits may differ from those of another training: the device's memory was short, or X is a memory map so
        large that its rows were shuffled within windows; else "".""",
}

FIT = {
    "X": """array, frame, table, sparse matrix or store (m, n)
        Numbers, rows are examples: of any library of the array API, pandas, polars, Arrow or SciPy. What is not float32
        is made float64. Or a store (``fullbatch.open_store``), alone: it has y, weights and held-out rows itself, which
        are scored as X_val is.""",
    "sample_weight": """array-like (m,) or None
        What each row counts, not negative: weight 2 is the same as the row twice, 0 as leaving it out.""",
    "X_val": """as X, or None
        Held-out rows, (k, n). Their cost after each epoch goes to ``validation_costs_``, and ``early_stopping`` scores
        them instead of rows that it splits off.""",
    "y_val": """as y, or None
        Their target.""",
    "sample_weight_val": """array-like (k,) or None
        Their weights.""",
    "resume": """Checkpoint or None
        Whose training goes on, to the same bits: with the same data and parameters; ``max_iter`` may be more.""",
    "classes": """array-like (k,) or None
        All labels that any call will have; the first call needs them.""",
    "y": """array-like (m,) or (m, k)
        The target.""",
}
