"""A second implementation to hold the pass to: scalar loops over one example at a time, with Python's own floats.

It shares no code with the package and uses no array library: a formula that is wrong there is not wrong here in the
same way. Vectors are lists; ``params`` is a list of (W, b) with W a list of rows and b a list. It is the one-example
pass of the notes (N7), and the vectorised pass must be its mean over the examples.

``problem`` at the end makes random networks and data for the tests; only that part uses NumPy.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

C = math.sqrt(2 / math.pi)


def logistic(z):
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


def g(name, z):
    """The activation of that name at z."""
    if name == "tanh":
        return math.tanh(z)
    if name == "sigmoid":
        return logistic(z)
    if name == "relu":
        return max(z, 0.0)
    if name == "leaky_relu":
        return z if z > 0 else 0.01 * z
    if name == "identity":
        return z
    if name == "gelu":
        return z / 2 * (1 + math.tanh(C * (z + 0.044715 * z**3)))
    if name == "silu":
        return z * logistic(z)
    raise KeyError(name)


def g_prime(name, z):
    """Its derivative, each written out from the definition."""
    if name == "tanh":
        return 1 / math.cosh(z) ** 2
    if name == "sigmoid":
        return logistic(z) * logistic(-z)
    if name == "relu":
        return 1.0 if z > 0 else 0.0
    if name == "leaky_relu":
        return 1.0 if z > 0 else 0.01
    if name == "identity":
        return 1.0
    if name == "gelu":
        u = C * (z + 0.044715 * z**3)
        return (1 + math.tanh(u)) / 2 + z / 2 / math.cosh(u) ** 2 * C * (1 + 3 * 0.044715 * z**2)
    if name == "silu":
        return logistic(z) + z * logistic(z) * logistic(-z)
    raise KeyError(name)


Q = 0.875  # the quantile of the tests, whose 1 - Q is exact
# What ``Network`` is told by what the tests call a unit and its loss: the unit's name where the loss is its own.
PAIRS = {
    **{output: {"output": output} for output in ("sigmoid", "softmax", "identity", "exp")},
    "absolute_error": {"output": "identity", "loss": "absolute_error"},
    "quantile": {"output": "identity", "loss": "quantile", "quantile": Q},
}


def kind(network):
    """The name in ``PAIRS`` of a network's output unit and loss, for a quantile of Q."""
    return network.output.name if network.loss.canonical else network.loss.name


def output_unit(output, z):
    """yhat of one example from z[L]."""
    if output == "sigmoid":
        return [logistic(v) for v in z]
    if output == "softmax":
        e = [math.exp(v - max(z)) for v in z]
        return [v / math.fsum(e) for v in e]
    if output in ("identity", "absolute_error", "quantile"):
        return list(z)
    if output == "exp":
        return [math.exp(v) for v in z]
    raise KeyError(output)


def loss(output, yhat, y):
    """L(yhat, y) of one example, as the notes write it (N4, N12)."""
    if output == "sigmoid":
        return -math.fsum(t * math.log(a) + (1 - t) * math.log(1 - a) for a, t in zip(yhat, y, strict=True))
    if output == "softmax":
        return -math.fsum(t * math.log(a) for a, t in zip(yhat, y, strict=True))
    if output == "identity":
        return math.fsum((a - t) ** 2 for a, t in zip(yhat, y, strict=True)) / 2
    if output == "exp":
        return math.fsum(a - t * math.log(a) for a, t in zip(yhat, y, strict=True))
    if output == "absolute_error":
        return math.fsum(abs(a - t) for a, t in zip(yhat, y, strict=True))
    if output == "quantile":
        return math.fsum((1 - Q) * (a - t) if a > t else Q * (t - a) for a, t in zip(yhat, y, strict=True))
    raise KeyError(output)


def loss_prime(output, a, t):
    """dL/dz of one unit."""
    if output == "absolute_error":
        return 1.0 if a > t else -1.0 if a < t else 0.0
    if output == "quantile":
        return 1 - Q if a > t else -Q if a < t else 0.0
    return a - t


def forward(params, activations, output, x):
    """z[l] and a[l] of one example: a[0] = x, ..., a[L] = yhat."""
    zs, activity = [], [list(x)]
    for l, (W, b) in enumerate(params):
        z = [math.fsum(w * v for w, v in zip(row, activity[-1], strict=True)) + c for row, c in zip(W, b, strict=True)]
        zs.append(z)
        last = l == len(params) - 1
        activity.append(output_unit(output, z) if last else [g(activations[l], v) for v in z])
    return zs, activity


def one_example(params, activations, output, x, y):
    """The loss and the gradients of one example (N7): a list of (dW, db), one per layer."""
    zs, activity = forward(params, activations, output, x)
    dz = [loss_prime(output, a, t) for a, t in zip(activity[-1], y, strict=True)]
    gradients = []
    for l in reversed(range(len(params))):
        gradients.insert(0, ([[d * a for a in activity[l]] for d in dz], list(dz)))
        if l > 0:
            W = params[l][0]
            da = [math.fsum(W[k][j] * dz[k] for k in range(len(dz))) for j in range(len(W[0]))]
            dz = [d * g_prime(activations[l - 1], z) for d, z in zip(da, zs[l - 1], strict=True)]
    return loss(output, activity[-1], y), gradients


def cost_and_gradients(params, activations, output, X, Y, l2=0.0, weights=None):
    """J and the gradients: the weighted mean of ``one_example`` over the columns of X and Y, and L2."""
    columns = list(zip(*X, strict=True))
    targets = list(zip(*Y, strict=True))
    s = [1.0] * len(columns) if weights is None else list(weights)
    each = [one_example(params, activations, output, x, y) for x, y in zip(columns, targets, strict=True)]
    m = math.fsum(s)
    J = math.fsum(w * L for w, (L, _) in zip(s, each, strict=True)) / m
    J += l2 / (2 * m) * math.fsum(w * w for W, _ in params for row in W for w in row)
    gradients = []
    for l, (W, b) in enumerate(params):
        dW = [
            [
                math.fsum(w * grads[l][0][i][j] for w, (_, grads) in zip(s, each, strict=True)) / m + l2 / m * W[i][j]
                for j in range(len(W[0]))
            ]
            for i in range(len(W))
        ]
        db = [math.fsum(w * grads[l][1][i] for w, (_, grads) in zip(s, each, strict=True)) / m for i in range(len(b))]
        gradients.append((dW, db))
    return J, gradients


# --- The bridge to arrays, and random problems ----------------------------------------------------------------------


def lists(params):
    """NumPy parameters as the lists of this file."""
    return [(np.asarray(W, dtype=float).tolist(), np.asarray(b, dtype=float)[:, 0].tolist()) for W, b in params]


def oracle(params, activations, output, X, Y, l2=0.0, weights=None):
    """``cost_and_gradients`` on NumPy arrays: J and a list of arrays dW[1], db[1], dW[2], ..."""
    J, gradients = cost_and_gradients(
        lists(params),
        activations,
        output,
        np.asarray(X, float).tolist(),
        np.asarray(Y, float).tolist(),
        l2,
        None if weights is None else np.asarray(weights, float).tolist(),
    )
    return J, [array for dW, db in gradients for array in (np.array(dW), np.array(db)[:, None])]


def relative(arrays, reference):
    """max |difference| / max |reference|, over all arrays together."""
    top = max(float(np.max(np.abs(r))) for r in reference)
    gap = max(float(np.max(np.abs(np.asarray(a, float) - r))) for a, r in zip(arrays, reference, strict=True))
    return gap / top if top else gap


def targets(rng, output, n, m):
    """Random Y (n, m) of the kind that belongs to the output unit."""
    if output == "softmax":
        return np.eye(n)[:, rng.integers(0, n, size=m)]
    if output == "sigmoid":
        return rng.integers(0, 2, size=(n, m)).astype(float)
    if output == "exp":
        return rng.poisson(1.5, size=(n, m)).astype(float)
    if output in ("absolute_error", "quantile"):  # far from yhat, where the slope does not hang on the last digits
        return rng.standard_normal((n, m)) + rng.choice([-30.0, 30.0], size=(n, m))
    return rng.standard_normal((n, m))


def problem(sizes, m, output, *, seed=0, dtype="float64"):
    """Random parameters, biases included, as a list of (W, b), X (n[0], m) and Y (n[L], m): NumPy arrays."""
    rng = np.random.default_rng(seed)
    params = [
        ((rng.standard_normal((n, k)) / math.sqrt(k)).astype(dtype), (0.3 * rng.standard_normal((n, 1))).astype(dtype))
        for k, n in pairwise(sizes)
    ]
    return params, rng.standard_normal((sizes[0], m)).astype(dtype), targets(rng, output, sizes[-1], m).astype(dtype)


def philox(counter, key, bits):
    """Philox of four words after ten rounds, by Python's integers: 4x32 with ``bits`` 32, and NumPy's 4x64 with 64."""
    multipliers, steps = {
        32: ((0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)),
        64: ((0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)),
    }[bits]
    (a, b, c, d), (k, l) = counter, key
    for _ in range(10):
        p, q = a * multipliers[0], c * multipliers[1]
        a, b, c, d = (q >> bits) ^ b ^ k, q % 2**bits, (p >> bits) ^ d ^ l, p % 2**bits
        k, l = (k + steps[0]) % 2**bits, (l + steps[1]) % 2**bits
    return a, b, c, d


def left_out(rate, seed, update, layer, unit, row):
    """Whether dropout leaves a unit out, of the row-th example of a batch."""
    words = philox((unit, row // 4, layer, update), (seed % 2**32, seed // 2**32), 32)
    return words[row % 4] < rate * 2**32
