"""scikit-learn is optional: nothing imports it unasked, and what lacks it is said."""

import subprocess
import sys

CODE = """
import sys
import cgjax
assert "sklearn" not in sys.modules and "cgjax.estimators" not in sys.modules
sys.modules["sklearn"] = None  # as if it were not installed
import cgjax.estimators
for kind in (cgjax.estimators.BayesianRegressor, cgjax.estimators.BayesianClassifier):
    try:
        kind(random_state=0)
    except ImportError as error:
        print(error)
"""


def test_without_scikit_learn():
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", CODE], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert all("pip install 'cgjax[estimators]'" in line for line in lines)
