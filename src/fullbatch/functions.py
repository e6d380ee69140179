"""The public functions on arrays: a caller's arrays are checked and placed, then the passes or the loop run on them."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any, NamedTuple

from fullbatch.core import door
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params, flatten, unflatten
from fullbatch.docstrings import described
from fullbatch.errors import InputError, NonFiniteError, check_number
from fullbatch.machine import arrays, places
from fullbatch.machine.given import plain
from fullbatch.machine.places import Place
from fullbatch.sources import Dense, Examples, put_examples
from fullbatch.sources.fingerprints import fingerprint, fingerprint_of_array
from fullbatch.sources.stored import Store
from fullbatch.training import optimizers
from fullbatch.training.checkpoints import (
    Checkpoint,
    Moment,
    check_same,
    is_checkpoint,
    made_by,
    moment_of,
    warn_of_other_bits,
)
from fullbatch.training.loop import descents
from fullbatch.training.objective import Objective
from fullbatch.training.optimizers import Optimizer
from fullbatch.training.schedules import Schedule
from fullbatch.training.state import TrainingState

logger = logging.getLogger("fullbatch")  # silent, unless its user says otherwise
ARGUMENTS = {
    "network": """Network
        Layers, activations, output unit and loss.""",
    "params": """sequence of (W, b)
        One pair for each layer, as of ``network.init``: W[l] (n[l], n[l-1]), b[l] (n[l], 1).""",
    "X": """array (n[0], m), or store
        One example per column, of the library, device and dtype (float32 or float64) of the parameters. Or a store
        (``open_store``), alone: it has Y and the weights itself.""",
    "Y": """array (n[L], m)
        The targets, one example per column; not beside a store.""",
    "l2": """float
        lambda in (lambda / 2m) sum ||W||^2, m the sum of the weights. At least 0; biases are not penalised.""",
    "sample_weight": """array (m,) or None
        What each example counts: finite, not negative, not all zero.""",
    "threads": """int or None
        CPU threads; None: all cores. No number of them changes a bit.""",
    "device": """str or None
        Where host arrays are computed: "cpu", "cuda", "cuda:N" or "auto" (a GPU where one works, else the CPU); None:
        where they are. Other arrays are never moved.""",
    "device_memory": """float or None
        The most that is taken of a GPU's memory: bytes, or a share of it up to 1. X and Y that do not fit are streamed,
        with the same outcome.""",
    "precision": """{"tf32"} or None
        Lets a GPU round float32 factors to 10 bits: faster where products are large, and off by about 1e-3.""",
}


@described(ARGUMENTS)
def cost(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any = None,
    *,
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
) -> float:
    """The cost J = sum_i s_i L_i / sum_i s_i + (l2 / 2m) sum ||W||^2 (N4, N12).

    Returns
    -------
    float
        J.

    Raises
    ------
    InputError
        Shapes, weights, ``l2`` or limits.
    ArrayTypeError
        Library, device or dtype; a unit, a mask or names, which would be dropped.
    DeviceError
        No such device, or no memory there for a block of 256 examples.
    NonFiniteError
        A cost that is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> net = fb.Network([2, 1])
    >>> zero = [(np.zeros((1, 2)), np.zeros((1, 1)))]
    >>> round(fb.cost(net, zero, np.ones((2, 5)), np.ones((1, 5))), 6)  # log 2
    0.693147
    """
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        return _finite(objective.cost(ready.theta))


@described(ARGUMENTS)
def cost_and_gradients(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any = None,
    *,
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
) -> tuple[float, Params]:
    """The cost J and its gradient, exact over all examples (N5).

    Returns
    -------
    J : float
        As of ``cost``.
    gradients : tuple of Layer
        ``Layer(W=dW, b=db)`` for each layer, of the shapes, library, device and dtype of the parameters. Blocks are
        added in float64 and in a fixed order, so that no number of threads changes a bit.

    Raises
    ------
    InputError, ArrayTypeError, DeviceError, NonFiniteError
        As ``cost``.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> net = fb.Network([2, 3, 1], hidden="tanh")
    >>> J, g = fb.cost_and_gradients(net, net.init(seed=0), np.ones((2, 5)), np.ones((1, 5)))
    >>> [(layer.W.shape, layer.b.shape) for layer in g]
    [((3, 2), (3, 1)), ((1, 3), (1, 1))]
    """
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        J, gradient = objective.cost_and_gradient(ready.theta)
        return _finite(J), ready.as_params(gradient, network)


@described({})
@dataclass(frozen=True)
class Run:
    """The outcome of ``gradient_descent``.

    Parameters
    ----------
    params : tuple of Layer
        After the last update.
    costs : list of float
        ``costs[t]`` is J after t updates, so there are ``iterations + 1`` of them.
    stopped : str
        "iterations" or "tolerance".
    step : str
        Which step ran: "native, avx512" and its kin, "inplace", "array", or one of a GPU.
    threads : int
        How many threads it ran on.
    device : str
        Where.
    precision : str
        Of the products: the dtype's own, or "tf32".
    note : str
        Why the bits may differ from those of another run: the device's memory was short; else "".

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> net = fb.Network([1, 1])
    >>> X, Y = np.array([[0.0, 1.0]]), np.array([[0.0, 1.0]])
    >>> run = fb.gradient_descent(net, net.init(seed=0), X, Y, learning_rate=1.0, iterations=20)
    >>> run.iterations, run.stopped, run.costs[-1] < run.costs[0]
    (20, 'iterations', True)
    """

    params: Params
    costs: list[float] = field(repr=False)
    stopped: str = "iterations"
    step: str = ""
    threads: int = 1
    device: str = "cpu"
    precision: str = ""
    note: str = ""

    @property
    def iterations(self) -> int:
        """How many updates there were."""
        return len(self.costs) - 1


@described(ARGUMENTS)
def gradient_descent(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any = None,
    *,
    learning_rate: float,
    iterations: int,
    l2: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
    tol: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
    checkpoint: Checkpoint | None = None,
    resume: Checkpoint | None = None,
) -> Run:
    """Full-batch gradient descent: all parameters at once from the gradients at the old point (N6).

    Parameters
    ----------
    learning_rate : float
        alpha in W <- W - alpha dW. Above 0.
    iterations : int
        Updates. At least 0.
    momentum : float
        At least 0, below 1.
    nesterov : bool
        Whether the momentum is Nesterov's.
    tol : float
        Stop when an iteration lowers the cost by less than this; 0 to run all iterations.
    checkpoint : Checkpoint or None
        Keeps the training in a file while it runs.
    resume : Checkpoint or None
        Whose training goes on, to the same bits: with the same network, data and settings, ``iterations`` may be more;
        ``params`` are not used.

    Returns
    -------
    Run
        The parameters, the costs, and what ran where.

    Raises
    ------
    InputError, ArrayTypeError, DeviceError
        As ``cost``; InputError too for all-zero weights with a hidden layer, whose units would stay equal (N2).
    NonFiniteError
        When the cost stops being finite; its ``params`` are the last good ones.

    Notes
    -----
    Of a lazy library such as dask the parameters are computed after each update, and X is computed anew in each
    iteration: ``X.persist()`` before the call does that once.

    Examples
    --------
    >>> import numpy as np
    >>> import fullbatch as fb
    >>> X = np.random.default_rng(0).standard_normal((2, 400))
    >>> Y = (X[:1, :] * X[1:, :] > 0).astype(float)
    >>> net = fb.Network([2, 4, 1], hidden="tanh", output="sigmoid")
    >>> run = fb.gradient_descent(net, net.init(seed=3), X, Y, learning_rate=1.2, iterations=500)
    >>> accuracy = ((net.forward(run.params, X).A[-1] > 0.5) == Y).mean()
    >>> bool(accuracy > 0.9)
    True
    """
    learning_rate = check_number("learning_rate", learning_rate, above=0)
    momentum = check_number("momentum", momentum, at_least=0)
    tol = check_number("tol", tol, at_least=0)
    if momentum >= 1:
        raise InputError(f"momentum must be below 1; got {momentum}.")
    if not isinstance(iterations, Integral) or isinstance(iterations, bool) or iterations < 0:
        raise InputError(f"iterations must be an integer of at least 0; got {iterations!r}.")
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    optimizer = optimizers.sgd(momentum, nesterovs_momentum=nesterov) if momentum else optimizers.gd()
    settings = {"learning_rate": learning_rate, "momentum": momentum, "nesterov": bool(nesterov), "l2": l2, "tol": tol}
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        record = _Record(objective, ready, settings, checkpoint, resume)
        state = TrainingState.start(ready.theta, optimizer, Schedule("constant", learning_rate))
        return _descend(objective, ready, optimizer, record.start(state), int(iterations), tol, record)


class _Record:
    """What a checkpoint is told of a training, and what is taken from the one that it goes on from."""

    def __init__(
        self, objective: Objective, ready: Prepared, settings: dict[str, Any], checkpoint: Any, resume: Any
    ) -> None:
        if checkpoint is not None and not is_checkpoint(checkpoint):
            raise InputError(f"checkpoint must be a fullbatch.Checkpoint; got {type(checkpoint).__name__}.")
        self.checkpoint, self.ready, self.network = checkpoint, ready, objective.network
        self.resumed = moment_of(resume)
        self.facts: dict[str, Any] = {}
        if checkpoint is None and resume is None:
            return
        examples, threads = ready.examples, objective.fold.threads
        assert examples.Y is not None
        data = {"X": fingerprint(examples.X, threads), "Y": fingerprint(examples.Y, threads)}
        if examples.weight is not None:
            data["sample_weight"] = fingerprint_of_array(examples.weight, threads)
        settings = {**settings, **_as_settings(objective.network)}
        self.facts = {"data": data, "settings": settings, "made_by": made_by(objective, ready.place.name)}
        if self.resumed is not None:
            check_same(self.resumed, self.facts)
            warn_of_other_bits(self.resumed, self.facts["made_by"], stacklevel=4)

    @property
    def seconds(self) -> float:
        """How far apart the states may lie that the checkpoint is told; of one that does not say so, it is told all."""
        return math.inf if self.checkpoint is None else float(getattr(self.checkpoint, "seconds", 0.0))

    def start(self, state: TrainingState) -> TrainingState:
        """Where the training begins, or goes on."""
        if self.resumed is not None:
            kept, put = self.resumed.state, self.put
            if kept.optimizer != state.optimizer or kept.theta.shape != state.theta.shape or kept.epoch_examples:
                raise InputError("the checkpoint is not of such a training: it has other parameters or another solver.")
            state = kept._replace(theta=put(kept.theta), arrays=tuple(put(array) for array in kept.arrays))
        self.tell(state)
        return state

    def put(self, array: Any) -> Any:
        theta = self.ready.theta
        if arrays.is_numpy(theta):
            return array
        return arrays.from_host(array, xp=arrays.namespace(theta), device=arrays.device_of(theta))

    def tell(self, state: TrainingState, *, last: bool = False) -> None:
        def model() -> Params:
            return self.ready.as_params(state.theta, self.network)

        if self.checkpoint is not None:
            self.checkpoint.tell(Moment(state, model, self.facts, last=last, anywhere=arrays.is_numpy(state.theta)))

    def is_over(self, iterations: int) -> str:
        """Why the training that is to go on was at its end, or ""; the user is told."""
        if self.resumed is None or not (self.resumed.state.stopped or self.resumed.state.epoch >= iterations):
            return ""
        stopped = self.resumed.state.stopped or "iterations"
        warnings.warn(
            f"the training in the checkpoint is at its end ({stopped}); its parameters are left as they are.",
            stacklevel=4,
        )
        return stopped


def _as_settings(network: Network) -> dict[str, Any]:
    """A network as JSON has it; activations of one's own by no more than that they are."""
    names = [activation.name or "own" for activation in network.activations]
    return {"sizes": list(network.sizes), "hidden": names, "output": network.output.name}


def _descend(
    objective: Objective,
    ready: Prepared,
    optimizer: Optimizer,
    state: TrainingState,
    iterations: int,
    tol: float,
    record: _Record,
) -> Run:
    network = objective.network
    last, final, stopped = state, math.nan, "iterations"
    tell = record.tell if record.checkpoint is not None else None  # a small iteration takes no longer than 50 calls
    loop: Iterator[TrainingState]
    loop = descents(objective, optimizer, state, iterations=iterations, tol=tol, seconds=record.seconds)
    if over := record.is_over(iterations):
        loop, stopped = iter(()), over
    try:
        for after in loop:
            final = after.costs[-1]  # of the parameters before the update
            if not math.isfinite(final):
                raise not_finite(final, state.epoch, ready.as_params(last.theta, network))
            if tell is not None:
                tell(state)  # now that its cost is known to be a number
            if state.epoch and tol > 0 and state.costs[-1] - final < tol:
                stopped = "tolerance"
                break
            last, state = state, after
        else:
            final = objective.cost(state.theta)
            if not math.isfinite(final):
                raise not_finite(final, iterations, ready.as_params(last.theta, network))
    except KeyboardInterrupt:
        record.tell(state, last=True)
        raise
    if not over:  # more iterations may be asked for later, but not where these were enough
        record.tell(state._replace(stopped="" if stopped == "iterations" else stopped), last=True)
    fold = objective.fold
    logger.info("gradient_descent: %d updates by the %s step on %s", len(state.costs), fold.step_name, ready.place.name)
    return Run(
        ready.as_params(state.theta, network), [*state.costs, final], stopped, fold.step_name, fold.used,
        ready.place.name, fold.precision, fold.note,
    )  # fmt: skip


def not_finite(cost: float, iteration: int, last: Params) -> NonFiniteError:
    """The error for a cost that is not finite; it keeps ``last``, the last parameters that were good."""
    if iteration == 0:
        message = (
            f"the cost is {cost} at the start: X, Y or the parameters contain NaN or infinity, or numbers so large "
            "that the pass overflows. Look for them, or scale the inputs."
        )
    else:
        message = (
            f"the cost became {cost} at iteration {iteration}: the steps are too large. Choose a smaller learning rate "
            "(a tenth, to begin with) or scale the inputs. The last finite parameters are in this error's .params."
        )
    return NonFiniteError(message, iteration=iteration, params=last)


class Prepared(NamedTuple):
    """A caller's arrays, checked, where the passes run.

    theta : the parameters, one vector
    home : whether results must come back to the host;  budget : bytes that blocks may take at ``place``
    """

    theta: Any
    examples: Examples
    home: bool
    place: Place
    budget: float

    def objective(self, network: Network, l2: float, threads: int | None, precision: str | None) -> Objective:
        return Objective(network, self.examples, l2=l2, threads=threads, precision=precision, budget=self.budget)

    def as_params(self, vector: Any, network: Network) -> Params:
        """A vector like theta as Layers of its dtype, where the caller's arrays are."""
        with arrays.quiet():
            vector = arrays.namespace(vector).astype(vector, self.theta.dtype, copy=False)
        return unflatten(arrays.to_host(vector) if self.home else vector, network.sizes)


def prepare(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any,
    sample_weight: Any,
    device: str | None,
    device_memory: float | None = None,
) -> Prepared:
    """Check the caller's arrays; place host arrays on ``device``: as a whole where they fit, else block by block."""
    if isinstance(X, Store):
        return _prepare_store(network, params, X, (Y, sample_weight), device, device_memory)
    door.check_array("Y", Y)
    places.check_memory(device_memory)
    layers = network.check(params, X, Y, sample_weight)
    door.check_known("X", X)
    door.check_known("Y", Y)
    layers = tuple(Layer(plain(W), plain(b)) for W, b in layers)
    X, Y, sample_weight = (plain(array) for array in (X, Y, sample_weight))
    place = places.home(X, device)
    with place.computing():
        (theta,) = arrays.settled((flatten(layers),))
        check_weights(sample_weight)
        if place.name == "cpu" or not arrays.is_numpy(X):
            budget = math.inf if device_memory is None else place.budget(device_memory)
            return Prepared(theta, Examples(Dense(X), Dense(Y), sample_weight), False, place, budget)
        budget = place.budget(device_memory)  # asked once, before anything is there: later it counts as taken too
        theta = place.put(theta)
        weight = None
        if sample_weight is not None:
            weight = place.put(sample_weight)
            budget = max(0.0, budget - sample_weight.nbytes)
        there = put_examples(X, Y, place, budget)
        budget = math.inf if device_memory is None else budget - there.taken
        return Prepared(theta, Examples(there.X, there.Y, weight), True, place, budget)


def _prepare_store(
    network: Network,
    params: Sequence[Any],
    store: Store,
    given: tuple[Any, Any],
    device: str | None,
    device_memory: float | None,
) -> Prepared:
    """The same of a store's rows to learn from, which are read block by block."""
    if any(one is not None for one in given):
        raise InputError(f"the store {store.path} has its own Y and sample_weight, and takes none beside it.")
    places.check_memory(device_memory)
    examples = store.examples(store.train)
    assert examples.Y is not None
    X, Y = (source.reader()(slice(0, 1)) for source in (examples.X, examples.Y))
    layers = network.check(params, X, Y, None)
    place = places.home(X, device)
    with place.computing():
        budget = math.inf if device_memory is None else place.budget(device_memory)
        theta = place.put(flatten(tuple(Layer(plain(W), plain(b)) for W, b in layers)))
        return Prepared(theta, store.examples(store.train, place), place.name != "cpu", place, budget)


def check_weights(sample_weight: Any) -> None:
    """Example weights are finite, not negative, and not all zero."""
    if sample_weight is None:
        return
    xp = arrays.namespace(sample_weight)
    if not bool(xp.all(xp.isfinite(sample_weight))):
        raise InputError("sample_weight contains NaN or infinity.")
    if bool(xp.any(sample_weight < 0)):
        raise InputError("sample_weight contains negative weights; a weight of 0 leaves an example out.")
    if not bool(xp.any(sample_weight > 0)):
        raise InputError("sample_weight is zero for all examples; at least one must be positive.")
    with arrays.quiet():
        total = float(xp.sum(sample_weight, dtype=arrays.widest_float(sample_weight)))
    if not math.isfinite(total):
        raise InputError("sample_weight is too large: its sum is not finite. Divide it by its largest value.")


def _finite(J: float) -> float:
    if not math.isfinite(J):
        raise NonFiniteError(
            f"the cost is {J}: X, Y or the parameters contain NaN or infinity, or numbers so large that the pass "
            "overflows. Look for them, or scale the inputs."
        )
    return J
