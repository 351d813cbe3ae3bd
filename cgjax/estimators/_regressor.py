"""Regression with uncertainty, in scikit-learn's conventions."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cgjax._static import Leaf
from cgjax.estimators._base import Estimator
from cgjax.estimators._likelihoods import Regression
from cgjax.estimators._methods import MethodName
from cgjax.estimators._mixtures import Mixture
from cgjax.estimators._options import held_out, number, numbers
from cgjax.estimators._saving import scaling_arrays, scaling_of
from cgjax.estimators._scaling import Scaling
from cgjax.estimators._scikit_learn import RegressorMixin
from cgjax.estimators._training import Rows

NOISES = ("heteroscedastic", "homoscedastic")


class BayesianRegressor(RegressorMixin, Estimator):
    """Regression that says how sure it is: means, deviations, intervals and densities.

        y = f(x) + noise,   noise ~ N(0, r(x)),   weights of f ~ q

    Features and targets are scaled inside, to mean 0 and deviation 1 over the rows of the training,
    and predictions are in the units of y: the noise and the prior, which are stated in scaled
    units, fit whatever the units of the table are. A fifth of the rows chooses the first level of
    the noise and the prior, and when to stop; then all rows are trained on.

    **Missing values** raise: fill them in, or leave the rows out. A **constant feature** is
    ignored, in predictions too. A **constant target** is predicted with a deviation near 0.
    **Rows** are at least 2; **targets** one, float[rows], or several, float[rows, targets], whose
    noises are independent. Rows have no weights.

    Args:
        network: None for the default one, `hidden` layers of ReLU nodes; or one of your own for
            float32[rows, features], in scaled units, with two outputs for each
            target, the second the logarithm of its noise's variance (one if "homoscedastic"):
            a function `make(features, outputs, rngs)` that returns a module of Flax NNX (or another
            that `cgjax.functional` takes), such a module, which begins with the parameters that it
            has, or a `Network` of two functions.
        method: "moments" trains a posterior of independent Gaussian weights, and predicts, by
            propagating means and variances; "sampling" trains it by local reparameterisation and
            predicts by `samples` draws of all weights; "ensemble" trains `members` networks.
        noise: "heteroscedastic", its variance is a function of x that is learnt; "homoscedastic",
            it is one number, which is learnt.
        hidden: units of each hidden layer of the default network.
        first_noise: the logarithm of the noise's variance to begin with, in units in which a target
            has variance 1; several are tried, the first is the most trusted.
        prior: the standard deviation of each weight before data; several are tried, the first is
            the most trusted. None: (1.0, 3.0), and (0.3, 1.0) for ensembles.
        learning_rate: of Adam; it falls to 0 as a cosine.
        batch_size: rows of a step. None: 32, from 5,000 rows on 64, from 20,000 on 256.
        max_epochs: of a training. None: as many as make 10,000 steps, from 5,000 rows on
            20,000.
        early_stopping: whether a training ends where validation rows are predicted worse than
            before for long, in its second half. If so, so many epochs are what the last training,
            on all rows, takes.
        validation_fraction: the share of rows on which values are chosen. Below 10 rows there are
            none: the first values are taken.
        members: of an ensemble.
        samples: networks that are drawn for predictions by "sampling".
        progress: whether a line on the standard error says how far the training is.
        random_state: an integer, a `numpy.random.RandomState`, or None for NumPy's global one: of
            validation rows, first weights, the order of rows, and draws. With an integer the same
            rows give the same estimator.

    Attributes:
        weights_: what was learnt of weights and noise, a tree of arrays.
        constant_features_: int[columns], the features that had one value in all rows.
        first_noise_, prior_: what validation rows chose.
        n_iter_: epochs of the last training.
        seed_: `random_state` if that is an integer, else what was drawn from it.

    Example:
        >>> random = np.random.default_rng(0)
        >>> x = random.uniform(-1, 1, (100, 1))
        >>> y = 1000 + 300 * x[:, 0] + 20 * random.normal(size=100)
        >>> model = BayesianRegressor(hidden=(8,), max_epochs=200, random_state=0).fit(x, y)
        >>> mean, deviation = model.predict(x, return_std=True)
        >>> low, high = model.predict_interval(x, 0.9)
        >>> print(model.score(x, y) > 0.95, np.all((low < mean) & (mean < high)))
        True True

    Source: [B] 4.2, with the recipe of `python -m train.uci`; Wu et al. 2019.
    """

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
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any) -> "BayesianRegressor":
        """Learns from rows.

        Args:
            X: float[rows, features], numbers without gaps, in any units.
            y: float[rows] or float[rows, targets].

        Returns:
            The estimator.

        Raises:
            ValueError: the arrays are not of these forms, hold what is missing or infinite, or have
                fewer than 2 rows; an argument of the constructor is out of its range; the network's
                outputs do not fit; the training diverges.
            TypeError: X is sparse; `network` is no network.
        """
        from sklearn.utils.validation import validate_data

        self._check_options()
        if self.noise not in NOISES:
            raise ValueError(f"noise is one of {', '.join(NOISES)}; got {self.noise!r}.")
        noises = numbers("first_noise", self.first_noise)
        self._forget()
        checked: Any = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, multi_output=True, ensure_min_samples=2
        )
        x, y = checked
        self._one_target = y.ndim == 1
        targets = np.asarray(y, np.float64).reshape(len(y), -1)
        self._outputs = Scaling.of(targets)
        rows = Rows(self._scale_inputs(x), self._outputs.scaled(targets, "y"))

        def held(random: np.random.Generator) -> np.ndarray:
            return held_out(len(x), self.validation_fraction, random)

        self._train(rows, self._predicts(), noises, held)
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """The mean of what is predicted, in the units of y.

        Args:
            X: float[rows, features].
            return_std: whether the standard deviation of a target, noise included, comes with it.

        Returns:
            float64, of the form of y; or two such arrays, means and deviations.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: X has other features than in `fit`, gaps, or an entry too far from those for
                float32.
        """
        made = self._mixture(X)
        mean = self._shaped(made.mean)
        return (mean, self._shaped(made.deviation)) if return_std else mean

    def predict_interval(self, X: Any, level: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """Where a new target lies with a probability: the central interval.

        The same probability is left below as above. By moments it is that of a Gaussian, otherwise
        of the mixture over draws or members.

        Args:
            X: float[rows, features].
            level: the probability, between 0 and 1.

        Returns:
            The lower and the upper ends, float64 of the form of y. Of several targets each has an
            interval of its own.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: the level is no probability between 0 and 1; X as for `predict`.
        """
        level = number("level", level, 0.0, 1.0)
        made = self._mixture(X)
        low, high = (made.quantile((1 + sign * level) / 2) for sign in (-1, 1))
        return self._shaped(low), self._shaped(high)

    def log_prob(self, X: Any, y: Any) -> np.ndarray:
        """The logarithm of the predictive density at targets: the higher, the better predicted.

        Args:
            X: float[rows, features].
            y: the targets, of the form of those in `fit`.

        Returns:
            float64[rows], in nats; a density by the units of y. Of several targets the joint one.

        Raises:
            sklearn.exceptions.NotFittedError: before `fit`.
            ValueError: y has another shape; X as for `predict`.
        """
        made = self._mixture(X)
        targets = np.asarray(y, np.float64)
        wanted = made.mean.shape[:1] if self._one_target else made.mean.shape
        if targets.shape != wanted:
            raise ValueError(f"y has shape {targets.shape}; expected {wanted}, as in `fit`.")
        return made.log_density(targets.reshape(made.mean.shape))

    def _predicts(self) -> Regression:
        return Regression(len(self._outputs.mean), self.noise == "heteroscedastic")

    def _mixture(self, X: Any) -> Mixture:
        """What is predicted of targets, in their units."""
        means, variances = (np.asarray(array, np.float64) for array in self._predicted(X))
        scale = self._outputs.deviation
        return Mixture(self._outputs.mean + scale * means, scale**2 * variances)

    def _shaped(self, values: np.ndarray) -> np.ndarray:
        return values[:, 0] if self._one_target else values

    def _kept(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        return {"one target": self._one_target}, scaling_arrays("outputs", self._outputs)

    def _restore(self, numbers: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        self._one_target = numbers["one target"]
        self._outputs = scaling_of("outputs", arrays)
        self._likelihood = self._predicts()
