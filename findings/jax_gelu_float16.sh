#!/bin/sh
# In float16, the gradient of `jax.nn.gelu` is NaN beyond 148, where it is 1 (and below -148, where it
# is 0).
#
# Package: jax and jaxlib 0.10.2, on Python 3.11 to 3.13.
# Seen: the default, `approximate=True`, is a tanh of x + 0.044715 x^3, whose derivative has 3 x^2 in it.
# That is infinite in float16 from |x| = 148 on, far below the largest number, 65504, and is multiplied
# by the derivative of a saturated tanh, which is 0. Values are right, so that nothing shows in a forward
# pass; `approximate=False`, silu and mish have finite gradients there, and so has bfloat16.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
JAX_PLATFORMS=cpu "$folder/venv/bin/python" - <<'PYTHON'
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

print("jax", jax.__version__)
x = jnp.array([-200.0, -148.0, -147.0, 147.0, 148.0, 200.0], jnp.float16)


def gradients(function, at):
    return np.asarray(jax.vmap(jax.grad(function))(at), np.float32)


print("approximate, float16 ", gradients(jax.nn.gelu, x))
assert np.array_equal(np.isnan(gradients(jax.nn.gelu, x)), [True, True, False, False, True, True])
assert np.array_equal(np.asarray(jax.nn.gelu(x), np.float32), np.maximum(np.asarray(x, np.float32), 0))

exact = partial(jax.nn.gelu, approximate=False)
for name, function, at in [
    ("exact, float16       ", exact, x),
    ("silu, float16        ", jax.nn.silu, x),
    ("mish, float16        ", jax.nn.mish, x),
    ("approximate, bfloat16", jax.nn.gelu, x.astype(jnp.bfloat16)),
]:
    print(name, gradients(function, at))
    np.testing.assert_array_equal(gradients(function, at), [0, 0, 0, 1, 1, 1])
PYTHON
echo "As described."
