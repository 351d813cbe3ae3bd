#!/bin/sh
# The same momentum of batch normalisation means the opposite, and the variance that is kept is not that
# which is used.
#
# Package: torch 2.13.0 and flax 0.12.8, on Python 3.11.
# Seen: a momentum of m keeps the share 1 - m of the old average in torch, and the share m in Flax.
# Torch keeps the variance with n - 1 in the denominator and normalises the batch itself with n; Flax
# does both with n. Weights that are carried over predict differently, the more so the smaller the
# batch.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PYTHON'
import flax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx

print("torch", torch.__version__, "flax", flax.__version__)
x = np.array([[1.0], [2.0], [6.0]], np.float32)
mean, with_n, with_less = x.mean(), x.var(), x.var(ddof=1)

theirs = torch.nn.BatchNorm1d(1, momentum=0.1)
output = theirs(torch.tensor(x)).detach().numpy()
print("torch: mean", theirs.running_mean.item(), "variance", theirs.running_var.item())
assert np.isclose(theirs.running_mean.item(), 0.1 * mean)
assert np.isclose(theirs.running_var.item(), 0.9 + 0.1 * with_less)
np.testing.assert_allclose(output, (x - mean) / np.sqrt(with_n), rtol=1e-4)

ours = nnx.BatchNorm(1, momentum=0.1, rngs=nnx.Rngs(0))
np.testing.assert_allclose(ours(jnp.asarray(x)), output, rtol=1e-4)
print("flax: mean", ours.mean[...].item(), "variance", ours.var[...].item())
assert np.isclose(ours.mean[...].item(), 0.9 * mean)
assert np.isclose(ours.var[...].item(), 0.1 + 0.9 * with_n)
PYTHON
echo "As described."
