"""Networks that know what they do not know, in scikit-learn's conventions.

    from cgjax.estimators import BayesianClassifier, BayesianRegressor

They need scikit-learn, `pip install 'cgjax[estimators]'`. `import cgjax` does not import it.
"""

from cgjax.estimators._classifier import BayesianClassifier
from cgjax.estimators._networks import Network
from cgjax.estimators._regressor import BayesianRegressor

__all__ = ["BayesianClassifier", "BayesianRegressor", "Network"]
