#!/bin/sh
# Of the covariances of neighbouring states given all observations, the one at index t is of t and t -
# 1, or of t + 1 and t.
#
# Package: pykalman 0.11.2 and statsmodels 0.15.0, on Python 3.11.
# Seen: in pykalman (its functions for the EM algorithm) entry t is Cov(z_t, z_{t-1}), and entry 0 is
# zero. In statsmodels entry t of `smoothed_state_autocov` is Cov(z_{t+1}, z_t), and the last entry is
# of a state after the last observation. Both arrays have as many entries as there are observations, so
# that one taken for the other is off by a step, and nothing fails.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pykalman==0.11.2 statsmodels==0.15.0 numpy==2.4.6 scipy==1.17.1
"$folder/venv/bin/python" - <<'PYTHON'
import importlib.metadata

import numpy as np
import statsmodels
from pykalman import standard
from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

print("pykalman", importlib.metadata.version("pykalman"), "statsmodels", statsmodels.__version__)
STEPS, A, Q, R, FIRST = 5, 0.9, 0.3, 0.5, 1.0
y = np.random.default_rng(0).normal(size=(STEPS, 1))

# The covariance of all states together, and given all observations.
variance = [FIRST]
for _ in range(STEPS - 1):
    variance.append(A**2 * variance[-1] + Q)
prior = np.array(
    [[variance[min(i, j)] * A ** abs(i - j) for j in range(STEPS)] for i in range(STEPS)]
)
posterior = prior - prior @ np.linalg.solve(prior + R * np.eye(STEPS), prior)
pairs = np.diagonal(posterior, 1)  # of states 0 and 1, of 1 and 2, ...

one = np.ones((1, 1))
offsets = np.zeros((STEPS - 1, 1)), np.zeros((STEPS, 1))
predicted, covariances, _, filtered, filtered_covariances = standard._filter(
    A * one, one, Q * one, R * one, *offsets, np.zeros(1), FIRST * one, np.ma.masked_array(y)
)
_, smoothed, gains = standard._smooth(
    A * one, filtered, filtered_covariances, predicted, covariances
)
of_pykalman = standard._smooth_pair(smoothed, gains)[:, 0, 0]

model = KalmanSmoother(k_endog=1, k_states=1)
model.bind(y)
model["design"] = model["selection"] = one
model["transition"], model["state_cov"], model["obs_cov"] = A * one, Q * one, R * one
model.initialize_known(np.zeros(1), FIRST * one)
of_statsmodels = model.smooth().smoothed_state_autocov[0, 0]

print("pairs      ", pairs.round(4))
print("pykalman   ", of_pykalman.round(4))
print("statsmodels", of_statsmodels.round(4))
np.testing.assert_allclose(of_pykalman, [0, *pairs], atol=1e-10)
np.testing.assert_allclose(of_statsmodels[:-1], pairs, atol=1e-10)
np.testing.assert_allclose(of_statsmodels[-1], A * posterior[-1, -1], atol=1e-10)
PYTHON
echo "As described."
