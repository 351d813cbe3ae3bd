#!/bin/sh
# GELU is the exact function, or an approximation by tanh, by default.
#
# Package: torch 2.13.0 and jax 0.10.2, on Python 3.11.
# Seen: `torch.nn.functional.gelu` is x Phi(x) by default, `jax.nn.gelu` its approximation by tanh,
# which is off by up to 0.0005. Each has the other by an argument: approximate="tanh",
# approximate=False.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 jax==0.10.2 jaxlib==0.10.2 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import jax
import jax.numpy as jnp
import numpy as np
import torch
from scipy.stats import norm

print("torch", torch.__version__, "jax", jax.__version__)
x = np.linspace(-5, 5, 2001, dtype=np.float32)
exact = x * norm.cdf(x)
theirs = torch.nn.functional.gelu
of_jax, of_torch = np.asarray(jax.nn.gelu(jnp.asarray(x))), theirs(torch.tensor(x)).numpy()
gap = np.abs(of_jax - of_torch).max()
print("largest gap:", gap)
assert np.abs(of_torch - exact).max() < 2e-6 and 3e-4 < gap < 6e-4
np.testing.assert_allclose(jax.nn.gelu(jnp.asarray(x), approximate=False), of_torch, atol=2e-6)
np.testing.assert_allclose(theirs(torch.tensor(x), approximate="tanh"), of_jax, atol=2e-6)
PYTHON
echo "As described."
