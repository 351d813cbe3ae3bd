"""Regression with uncertainty, in scikit-learn's conventions."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np

from cgjax._static import Leaf
from cgjax.estimators._base import Estimator, held_out, numbers
from cgjax.estimators._likelihoods import Regression
from cgjax.estimators._methods import MethodName
from cgjax.estimators._mixtures import Mixture
from cgjax.estimators._scaling import Scaling
from cgjax.estimators._scikit_learn import RegressorMixin

NOISES = ("heteroscedastic", "homoscedastic")


class BayesianRegressor(RegressorMixin, Estimator):
    """TODO"""

    def __init__(
        self,
        network: Leaf = None,
        *,
        method: MethodName = "moments",
        noise: Literal["heteroscedastic", "homoscedastic"] = "heteroscedastic",
        hidden: Sequence[int] = (50,),
        first_noise: Sequence[float] | float = (-1.0, -3.0),
        prior: Sequence[float] | float | None = None,
        learning_rate: float = 0.01,
        batch_size: int | None = None,
        max_epochs: int | None = None,
        early_stopping: bool = True,
        validation_fraction: float = 0.2,
        members: int = 5,
        samples: int = 100,
        progress: bool = False,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.method = method
        self.noise = noise
        self.hidden = hidden
        self.first_noise = first_noise
        self.prior = prior
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.members = members
        self.samples = samples
        self.progress = progress
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.single_output = True
        tags.target_tags.multi_output = True
        tags.non_deterministic = False
        return tags

    def fit(self, X: Any, y: Any) -> Self:
        from sklearn.utils.validation import validate_data

        self._check_options()
        if self.noise not in NOISES:
            raise ValueError(f"noise is one of {', '.join(NOISES)}; got {self.noise!r}.")
        noises = numbers("first_noise", self.first_noise)
        X, y = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        self._one_target = y.ndim == 1
        targets = np.asarray(y, np.float64).reshape(len(y), -1)
        self._outputs = Scaling.of(targets)
        likelihood = Regression(targets.shape[1], self.noise == "heteroscedastic")
        rows = self._scale_inputs(X), self._outputs.scaled(targets, "y")
        self._train(*rows, likelihood, noises, lambda r: held_out(len(X), self.validation_fraction, r))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        made = self._mixture(X)
        mean = self._shaped(made.mean)
        return (mean, self._shaped(made.deviation)) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        if not 0 < level < 1:
            raise ValueError(f"level is a probability between 0 and 1, got {level!r}.")
        made = self._mixture(X)
        low, high = (made.quantile((1 + sign * level) / 2) for sign in (-1, 1))
        return self._shaped(low), self._shaped(high)

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        made = self._mixture(X)
        targets = np.asarray(y, np.float64).reshape(len(made.mean), -1)
        return made.log_density(targets)

    def _mixture(self, X: Any) -> Mixture:
        """What is predicted of targets, in their units."""
        means, variances = (np.asarray(array, np.float64) for array in self._predicted(X))
        scale = self._outputs.deviation
        return Mixture(self._outputs.mean + scale * means, scale**2 * variances)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._one_target else values

    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        units = self._outputs._asdict()
        return {"one target": self._one_target}, {f"outputs/{n}": a for n, a in units.items()}

    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._one_target = numbers["one target"]
        self._outputs = Scaling(*(arrays[f"outputs/{name}"] for name in Scaling._fields))
        self._likelihood = Regression(
            len(self._outputs.mean), self.noise == "heteroscedastic"
        )
