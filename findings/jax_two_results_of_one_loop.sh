#!/bin/sh
# On a CPU, XLA computes an element-wise function with two results term by term through memory, where
# each of the two alone is a single loop.
#
# Package: jax and jaxlib 0.10.2, on Python 3.11, CPU. (The same with 0.12.0.1 on Python 3.13.)
# Seen: the sum of sixteen logistic functions of x, and the sum of their squares, as of a quadrature for a
# mean and a variance, of 65,536 numbers. Either sum alone is one fused kernel without temporary memory. Both
# together are 18 kernels, which write 15 arrays of the size of x to memory and read them again: there is no
# loop with two results, and what both need is stored. The one exception is a reduction of several arrays: two
# equal rows, of halves of both sums, reduced by addition, are one kernel without temporary memory, with the
# same results to the last bit, if the equality of the rows is hidden behind a condition that always holds.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
import re

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

print("jax", jax.__version__)
SIZE = 1 << 16
POINTS = np.linspace(-3, 3, 16).tolist()


def both(x):
    first = second = jnp.zeros_like(x)
    for point in POINTS:
        y = jax.nn.sigmoid(x + point)
        first, second = first + y, second + y * y
    return first, second


def reduced(x):
    rows = jnp.broadcast_to(x, (2, SIZE))
    holds = lax.broadcasted_iota(jnp.uint32, rows.shape, 0) < 7
    halves = [y / 2 for y in both(jnp.where(holds, rows, 1))]
    zeros = [np.float32(0)] * 2
    return lax.reduce(halves, zeros, lambda a, b: [p + q for p, q in zip(a, b)], (0,))


def compiled(function):
    """How many fused kernels a program is, and how many arrays it stores meanwhile."""
    x = jax.ShapeDtypeStruct((SIZE,), jnp.float32)
    program = jax.jit(function).lower(x).compile()
    kernels = len(re.findall(r" fusion\(", program.as_text().split("\nENTRY ")[1]))
    return kernels, program.memory_analysis().temp_size_in_bytes // (4 * SIZE)


forms = {
    "the sum": lambda x: both(x)[0],
    "the sum of squares": lambda x: both(x)[1],
    "both": both,
    "both, as a reduction": reduced,
}
found = {name: compiled(form) for name, form in forms.items()}
for name, (kernels, arrays) in found.items():
    print(f"{name}: {kernels} kernels, {arrays} temporary arrays")
x = jnp.linspace(-4, 4, SIZE)
pairs = zip(jax.jit(both)(x), jax.jit(reduced)(x))
same = all(np.array_equal(p, q) for p, q in pairs)
print("same bits:", same)
expected = {
    "the sum": (1, 0),
    "the sum of squares": (1, 0),
    "both": (18, 15),
    "both, as a reduction": (1, 0),
}
raise SystemExit(0 if same and found == expected else 1)
PYTHON
