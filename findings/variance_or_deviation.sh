#!/bin/sh
# What the width of a Gaussian is, its variance or its standard deviation, differs within one library.
#
# Package: torch 2.13.0, scipy 1.17.1, scikit-learn 1.9.1, on Python 3.11.
# Seen: `torch.nn.functional.gaussian_nll_loss` takes a variance, `torch.distributions.Normal` a
# deviation. `scipy.stats.norm` takes a deviation, `scipy.stats.multivariate_normal` a variance. `alpha`
# and `WhiteKernel` of scikit-learn's GaussianProcessRegressor are variances, and what `predict` returns
# with `return_std` is a deviation, in which WhiteKernel's noise is contained and alpha's is not. With
# one in place of the other nothing fails; intervals are too wide or too narrow.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import scipy
import sklearn
import torch
from scipy.stats import multivariate_normal, norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel

print("torch", torch.__version__, "scipy", scipy.__version__, "scikit-learn", sklearn.__version__)
width, x = 4.0, 2.0


def log_density(variance):
    return -0.5 * (np.log(2 * np.pi * variance) + x**2 / variance)


of_variance, of_deviation = log_density(width), log_density(width**2)
mean, value, given = torch.zeros(1), torch.full((1,), x), torch.full((1,), width)
found = {
    "gaussian_nll_loss": -torch.nn.functional.gaussian_nll_loss(mean, value, given, full=True).item(),
    "Normal": torch.distributions.Normal(mean, given).log_prob(value).item(),
    "norm": norm(0, width).logpdf(x),
    "multivariate_normal": multivariate_normal(0, width).logpdf(x),
}
print(found)
for name in ("gaussian_nll_loss", "multivariate_normal"):
    assert np.isclose(found[name], of_variance), name
for name in ("Normal", "norm"):
    assert np.isclose(found[name], of_deviation), name

# Far from what was seen the process has variance 1, so that only the noise can be in question.
seen, far = np.array([[0.0]]), np.array([[100.0]])
deviations = {}
for name, kernel, alpha in (("alpha", RBF(), 4.0), ("WhiteKernel", RBF() + WhiteKernel(4.0), 1e-10)):
    process = GaussianProcessRegressor(kernel, alpha=alpha, optimizer=None).fit(seen, [1.0])
    mean, (deviation,) = process.predict(far, return_std=True)
    at_seen = process.predict(seen)[0]
    deviations[name] = deviation
    assert np.isclose(at_seen, 1 / (1 + 4)), at_seen  # noise of variance 4
print("deviations far away", deviations)
assert np.isclose(deviations["alpha"], 1) and np.isclose(deviations["WhiteKernel"], 5**0.5)
PYTHON
echo "As described."
