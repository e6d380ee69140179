"""J and its gradient over a source of examples: fold, divide by m once, add L2 once.

J     = (1/m) sum_i s_i L_i + (l2 / 2m) sum_l ||W[l]||^2       m = sum_i s_i, the number of examples without weights
dW[l] = (1/m) sum_i s_i dW_i[l] + (l2/m) W[l]
db[l] = (1/m) sum_i s_i db_i[l]                                 biases are not penalised
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, NamedTuple

from fullbatch.core.gradient_sum import GradientSum
from fullbatch.core.network import Network
from fullbatch.core.parameters import Layer, Params
from fullbatch.errors import ArrayTypeError, InputError, NonFiniteError
from fullbatch.fold.fold import Fold
from fullbatch.machine import arrays, places
from fullbatch.machine.places import Place
from fullbatch.sources import Dense, Examples, Where, put_examples


class Objective:
    """The cost J of a network on examples, with its gradient. A context manager, as the fold that it holds.

    intercept : False holds the biases where they are, by a gradient of zero
    precision : of products, None or "tf32";  room : bytes that blocks may take on a device
    """

    def __init__(
        self,
        network: Network,
        examples: Examples,
        *,
        l2: float = 0.0,
        threads: int | None = None,
        intercept: bool = True,
        precision: str | None = None,
        room: float = math.inf,
    ) -> None:
        self.l2 = check_number("l2", l2, at_least=0)
        self.fold = Fold(network, examples, threads=threads, precision=precision, room=room)
        self.network, self.examples = network, examples
        self.intercept = intercept

    def __enter__(self) -> Objective:
        self.fold.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.fold.__exit__(*error)

    def cost(self, params: Params, where: Where = None) -> float:
        """J on the examples that ``where`` selects (all if None); it may be infinite or NaN."""
        loss, weight, squares = arrays.floats(*self.fold.cost(params, where), self._squares(params))
        return self._divide(loss, weight) + self._penalty(squares, weight)

    def cost_and_gradients(self, params: Params, where: Where = None) -> tuple[float, Params]:
        """J and one Layer(W=dW, b=db) per layer, in the widest float where several blocks were added."""
        total: GradientSum = self.fold.gradient(params, where)
        if not self.intercept:
            total = total._replace(gradients=tuple(Layer(W, 0 * b) for W, b in total.gradients))
        weight, loss, squares = arrays.floats(total.weight, total.loss, self._squares(params))
        J = self._divide(loss, weight) + self._penalty(squares, weight)
        if weight == 0.0:  # a mini-batch of examples that all weigh nothing: they are as good as left out
            return J, tuple(Layer(0 * W, 0 * b) for W, b in total.gradients)
        gradients = tuple(Layer(g.W / weight, g.b / weight) for g in total.gradients)
        if self.l2 > 0:
            factor = self.l2 / weight
            gradients = tuple(Layer(g.W + factor * layer.W, g.b) for g, layer in zip(gradients, params, strict=True))
        return J, gradients

    @staticmethod
    def _divide(loss: float, weight: float) -> float:
        return loss / weight if weight > 0 else 0.0

    def _squares(self, params: Params) -> Any:
        """The sum of all weights' squares, not yet read back from a device; 0 where it is not needed."""
        if self.l2 == 0:
            return 0.0
        xp, wide = arrays.namespace(params[0].W), arrays.widest_float(params[0].W)
        with arrays.quiet():
            vectors = [xp.reshape(xp.astype(layer.W, wide, copy=False), (-1,)) for layer in params]
            return sum(w @ w for w in vectors)

    def _penalty(self, squares: float, weight: float) -> float:
        return self.l2 / (2 * weight) * squares if weight > 0 else 0.0


def cost(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any,
    *,
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
) -> float:
    """The cost J, a Python float.

    X (n[0], m), Y (n[L], m), sample_weight (m,) or None: arrays of one library, device and dtype (float32 or float64),
    as the parameters. l2 is lambda in (lambda / 2m) sum ||W||^2. threads limits the CPU's threads. device places host
    arrays: "cpu", "cuda", "cuda:N" or "auto"; device_memory, in bytes or as a share of the GPU's, limits what we take
    there: X and Y that do not fit are streamed, with the same outcome. precision "tf32" lets a GPU round float32
    factors to 10 bits: faster where products are large, and off by about 1e-3.

    Raises InputError (shapes, weights, l2, limits), ArrayTypeError (library, device, dtype), DeviceError (no such
    device, or no memory there for a block of 256 examples) and NonFiniteError (a cost that is not finite).
    """
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        return _finite(objective.cost(ready.params))


def cost_and_gradients(
    network: Network,
    params: Sequence[Any],
    X: Any,
    Y: Any,
    *,
    l2: float = 0.0,
    sample_weight: Any = None,
    threads: int | None = None,
    device: str | None = None,
    device_memory: float | None = None,
    precision: str | None = None,
) -> tuple[float, Params]:
    """The cost J and its gradient: one ``Layer(W=dW, b=db)`` per layer, of the parameters' library, device and dtype.

    Arguments and errors as for ``cost``.
    """
    ready = prepare(network, params, X, Y, sample_weight, device, device_memory)
    with ready.place.computing(), ready.objective(network, l2, threads, precision) as objective:
        J, gradients = objective.cost_and_gradients(ready.params)
        return _finite(J), as_params(gradients, ready.params, ready.home)


def as_params(layers: Params, params: Params, home: bool) -> Params:
    """The layers in the dtype of the parameters, and on the host if the caller's arrays were there (``home``)."""
    xp = arrays.namespace(params[0].W)
    with arrays.quiet():
        cast = [
            Layer(*(xp.astype(array, like.dtype, copy=False) for array, like in zip(layer, own, strict=True)))
            for layer, own in zip(layers, params, strict=True)
        ]
    return tuple(Layer(*map(arrays.to_host, layer)) for layer in cast) if home else tuple(cast)


class Prepared(NamedTuple):
    """A caller's arrays, checked, where the passes run.

    home : whether results must come back to the host;  room : bytes that blocks may take at ``place``
    """

    params: Params
    examples: Examples
    home: bool
    place: Place
    room: float

    def objective(self, network: Network, l2: float, threads: int | None, precision: str | None) -> Objective:
        return Objective(network, self.examples, l2=l2, threads=threads, precision=precision, room=self.room)


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
    arrays.check_array("Y", Y)
    places.check_memory(device_memory)
    layers = network.check(params, X, Y, sample_weight)
    layers = tuple(Layer(arrays.detached(W), arrays.detached(b)) for W, b in layers)
    X, Y, sample_weight = (arrays.detached(array) for array in (X, Y, sample_weight))
    place = _place(X, device)
    with place.computing():
        check_weights(sample_weight)
        if place.name == "cpu" or not arrays.is_numpy(X):
            room = math.inf if device_memory is None else place.room(device_memory)
            return Prepared(layers, Examples(Dense(X), Dense(Y), sample_weight), False, place, room)
        room = place.room(device_memory)  # asked once, before anything is there: later it counts as taken too
        layers = tuple(Layer(place.put(W), place.put(b)) for W, b in layers)
        weight = None
        if sample_weight is not None:
            weight = place.put(sample_weight)
            room = max(0.0, room - sample_weight.nbytes)
        there = put_examples(X, Y, place, room)
        room = math.inf if device_memory is None else room - there.taken
        return Prepared(layers, Examples(there.X, there.Y, weight), True, place, room)


def _place(X: Any, device: str | None) -> Place:
    """Where the passes run. device= places host input only: what is on a device stays there."""
    if device is not None:
        places.check_device(device)
    if arrays.is_numpy(X):
        return places.place(device or "cpu")
    if device == "cpu":
        raise ArrayTypeError(
            f"device='cpu' and X is an array of {arrays.library_name(X)} on {arrays.device_of(X)}: it is not "
            "copied in silence. Leave device out to compute where X is, or bring the arrays to the host."
        )
    return places.place_of(X)


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


def check_number(name: str, value: Any, *, at_least: float | None = None, above: float | None = None) -> float:
    """A finite number in its range, or an InputError that says which range."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if (
        not math.isfinite(number)
        or (above is not None and number <= above)
        or (at_least is not None and number < at_least)
    ):
        bound = f"above {above}" if above is not None else f"of at least {at_least}"
        raise InputError(f"{name} must be a finite number {bound}; got {value!r}.")
    return number


def _finite(J: float) -> float:
    if not math.isfinite(J):
        raise NonFiniteError(
            f"the cost is {J}: X, Y or the parameters contain NaN or infinity, or numbers so large that the pass "
            "overflows. Look for them, or scale the inputs."
        )
    return J
