#!/bin/sh
# A divergence between two rows of probabilities is a sum over classes, or that divided by the number of
# classes, by the name of the same word, "mean".
#
# Package: torch 2.13.0 and optax 0.2.8, on Python 3.11.
# Seen: `torch.nn.functional.kl_div` with its default, reduction="mean", divides by the number of
# entries, classes included: for four rows of five classes it is a fifth of the mean divergence of a
# row. reduction="batchmean" is that mean. `optax.losses.kl_divergence` sums over classes and leaves
# rows apart. Both take logarithms first and probabilities second, and mean KL(second, first). A loss
# that adds the default to a mean log-likelihood weighs the divergence less, the more classes there are.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 optax==0.2.8 jax==0.10.2 jaxlib==0.10.2
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import jax.numpy as jnp
import numpy as np
import optax
import torch
from torch.nn import functional

print("torch", torch.__version__, "optax", optax.__version__)
warnings.simplefilter("ignore")  # torch says that the default is to change
random = np.random.default_rng(0)
p, q = (random.dirichlet(np.ones(5), 4) for _ in range(2))
rows = (p * (np.log(p) - np.log(q))).sum(1)

found = {
    name: functional.kl_div(torch.tensor(np.log(q)), torch.tensor(p), reduction=name).item()
    for name in ("mean", "batchmean", "sum")
}
print(found, "mean of rows", rows.mean())
assert np.isclose(found["mean"], rows.mean() / 5)
assert functional.kl_div(torch.tensor(np.log(q)), torch.tensor(p)).item() == found["mean"]
assert np.isclose(found["batchmean"], rows.mean())
assert np.isclose(found["sum"], rows.sum())

apart = optax.losses.kl_divergence(jnp.log(jnp.asarray(q)), jnp.asarray(p))
print("optax", apart)
np.testing.assert_allclose(apart, rows, rtol=1e-4)
PYTHON
echo "As described."
