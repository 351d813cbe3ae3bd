#!/bin/sh
# A confidence that lies on the edge of two bins counts for the upper one, or for the lower.
#
# Package: torchmetrics 1.9.0, netcal 1.4.0 and scikit-learn 1.9.1, on Python 3.11.
# Seen: bins of the expected calibration error are closed at the left in torchmetrics and netcal, and at
# the right in scikit-learn's `calibration_curve` (as in the article of Guo et al. 2017). Confidences
# that are multiples of the width of a bin are common where they are shares of votes or averages of few
# samples, and the error then differs by more than one would publish: 0.55 against 0.42 for the three
# predictions here.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    torch==2.13.0 numpy==2.4.6 torchmetrics==1.9.0 netcal==1.4.0 scikit-learn==1.9.1
"$folder/venv/bin/python" - <<'PYTHON'
import netcal
import numpy as np
import sklearn
import torch
import torchmetrics
from netcal.metrics import ECE
from sklearn.calibration import calibration_curve
from torchmetrics.functional.classification import binary_calibration_error

print("torchmetrics", torchmetrics.__version__, "netcal", netcal.__version__, end=" ")
print("scikit-learn", sklearn.__version__)
confidence, correct = np.array([0.2, 0.25, 0.3]), np.array([0, 1, 1])  # 0.25 is an edge


def error(bins):
    """The expected calibration error, for the numbers of the bins of the three."""
    return sum(
        abs((correct[bins == k] - confidence[bins == k]).sum()) / 3 for k in np.unique(bins)
    )


upper, lower = error(np.array([0, 1, 1])), error(np.array([0, 0, 1]))
found = {
    "torchmetrics": binary_calibration_error(
        torch.tensor(confidence), torch.tensor(correct), n_bins=4, norm="l1"
    ).item(),
    "netcal": float(ECE(bins=4).measure(confidence, correct)),
}
print(f"closed at the left {upper:.3f}, at the right {lower:.3f}", found)
assert all(np.isclose(value, upper) for value in found.values())
shares, means = calibration_curve(correct, confidence, n_bins=4)
print("scikit-learn: shares", shares, "mean confidences", means)
np.testing.assert_allclose(shares, [0.5, 1.0])
np.testing.assert_allclose(means, [0.225, 0.3])
PYTHON
echo "As described."
