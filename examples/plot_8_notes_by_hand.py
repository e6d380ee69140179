"""
The notes by hand
=================

A network with one hidden layer in plain array API, line by line as lecture notes have it, beside the package's pass.
"""

import array_api_compat
import matplotlib.pyplot as plt
import numpy as np

import fullbatch as fb

rng = np.random.default_rng(1)
angle, side = rng.uniform(0, np.pi, 400), np.repeat([0, 1], 200)
r = 4 * np.sin(4 * angle) + rng.normal(0, 0.2, 400)
X = np.stack([r * np.sin(angle + side * np.pi), r * np.cos(angle + side * np.pi)])  # (2, m): examples are columns
Y = (np.sin(4 * angle) > 0)[np.newaxis, :] * 1.0


def cost_and_gradients(W1, b1, W2, b2, X, Y):
    """N3 to N5, in whatever library the arrays are of."""
    xp, m = array_api_compat.array_namespace(X), X.shape[1]
    A1 = xp.tanh(W1 @ X + b1)
    Z2 = W2 @ A1 + b2
    J = xp.sum(xp.maximum(Z2, 0 * Z2) - Z2 * Y + xp.log1p(xp.exp(-xp.abs(Z2)))) / m
    dZ2 = 1 / (1 + xp.exp(-Z2)) - Y
    dZ1 = W2.T @ dZ2 * (1 - A1 * A1)
    gradients = [dZ1 @ X.T, xp.sum(dZ1, axis=1, keepdims=True), dZ2 @ A1.T, xp.sum(dZ2, axis=1, keepdims=True)]
    return J, [gradient / m for gradient in gradients]


# %%
# Gradient descent (N6), and the same by the package:

net = fb.Network([2, 4, 1], hidden="tanh", output="sigmoid")
(W1, b1), (W2, b2) = net.init(seed=3)
run = fb.gradient_descent(net, net.init(seed=3), X, Y, learning_rate=1.2, iterations=5_000)
theta, costs = [W1, b1, W2, b2], []
for _ in range(5_000):
    J, gradients = cost_and_gradients(*theta, X, Y)
    costs.append(float(J))
    theta = [one - 1.2 * gradient for one, gradient in zip(theta, gradients, strict=True)]
print(f"cost {costs[-1]:.6f} by hand, {run.costs[-2]:.6f} by the package")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.5))
left.plot(costs)
left.set(xlabel="iteration", ylabel="cost")
grid = np.stack([axis.ravel() for axis in np.meshgrid(*[np.linspace(-4.5, 4.5, 200)] * 2)])
right.contourf(*grid.reshape(2, 200, 200), net.forward(run.params, grid).A[-1].reshape(200, 200), cmap="coolwarm")
right.scatter(*X, c=Y[0], s=8, cmap="coolwarm", edgecolors="k", linewidths=0.3)
plt.show()
