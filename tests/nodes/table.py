"""One table of all node families, and the numerical tools that the tests of families share."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgjax import nodes
from cgjax.kernels.random_bits import random_words


@dataclass(frozen=True)
class Case:
    """A family, and the natural parameters that the common tests use it with.

    Attributes:
        name: of the test case.
        family: the family under test.
        low, high: range of the natural parameters; the ends are valid natural parameters too.
        bounded: whether e must lie in [low, high] (probabilities, expected values).
    """

    name: str
    family: nodes.Family
    low: float = -3.0
    high: float = 3.0
    bounded: bool = False

    @property
    def e(self) -> np.ndarray:
        """Eight natural parameters strictly inside the range, in float64, shape (2, 4)."""
        share = np.array([[0.07, 0.3, 0.42, 0.55], [0.61, 0.7, 0.83, 0.94]])
        return self.low + share * (self.high - self.low)


CASES = (
    Case("binary", nodes.Binary(-1.0, 3.0), -2.0, 2.0),
    Case("binary_positive", nodes.Binary(0.5, 2.0)),
    Case("binary_array", nodes.Binary(np.array([0.0, -1.0, -2.0, 1.0]), np.float32(1.5)), -2, 2),
    Case("bernoulli", nodes.Bernoulli()),
    Case("spin", nodes.Spin(), -2.0, 2.0),
    Case("continuous_bernoulli", nodes.ContinuousBernoulli()),
    Case("categorical", nodes.Categorical()),
    Case("categorical_first", nodes.Categorical(axis=-2)),
    Case("gaussian", nodes.Gaussian(2.0)),
    Case("gaussian_array", nodes.Gaussian(np.array([0.5, 1.0, 1.5, 2.0]))),
    Case("rectified", nodes.RectifiedGaussian(1.0)),
    Case("rectified_leak", nodes.RectifiedGaussian(0.5, leak=np.array([0.2, 0.5, 1.0, 0.0]))),
    Case("rectified_function", nodes.RectifiedGaussian(jax.nn.softplus, leak=0.3)),
    Case("relu", nodes.ReLU()),
    Case("leaky_relu", nodes.LeakyReLU()),
    Case("leaky_relu_steep", nodes.LeakyReLU(0.7)),
    Case("softplus", nodes.Softplus()),
    Case("nair_hinton", nodes.NairHinton()),
    Case("gelu", nodes.GELU()),
    Case("gelu_exact", nodes.GELU(approximate=False)),
    Case("silu", nodes.SiLU()),
    Case("silu_array", nodes.SiLU(np.array([0.5, 1.0, 1.702, 0.8]))),
    Case("mish", nodes.Mish()),
    Case("hard_silu", nodes.HardSiLU(), -2.5, 4.0),
    Case("elu", nodes.ELU()),
    Case("elu_array", nodes.ELU(np.array([0.5, 1.0, 1.5, 2.0]))),
    Case("selu", nodes.SELU()),
    Case("celu", nodes.CELU(0.7)),
    Case("hard_tanh", nodes.HardTanh(), -1.0, 1.0),
    Case("hard_sigmoid", nodes.HardSigmoid()),
    Case("sparse_sigmoid", nodes.SparseSigmoid(), -1.0, 1.0),
    Case("relu6", nodes.ReLU6(), 0.0, 6.0),
    Case("soft_sign", nodes.SoftSign()),
    Case("arctan", nodes.Arctan()),
    Case("sine", nodes.Sine()),
    Case("sparse_plus", nodes.SparsePlus(), -1.2, 2.0),
    Case("bernoulli_mask", nodes.BernoulliMask(), 0.0, 1.0, bounded=True),
    Case("gaussian_mask", nodes.GaussianMask(), 0.25, 1.0, bounded=True),
    Case(
        "inverse_chi", nodes.InverseChi(np.array([21.0, 25.0, 31.0, 40.0])), 0.5, 1.5, bounded=True
    ),
    Case("soft_clamp", nodes.SoftClamp(-1.0, 2.0), -1.0, 2.0, bounded=True),
)
DISCRETE = tuple(case for case in CASES if case.family.discrete)
# Their values are numbers that depend on e, which `tests/nodes/test_gated.py` holds to their law.
GATED = tuple(case for case in CASES if not (case.family.discrete or case.family.reparameterised))
CONTINUOUS = tuple(case for case in CASES if case.family.reparameterised)
ELEMENTWISE = tuple(case for case in CASES if not isinstance(case.family, nodes.Categorical))
# Without those that are the operations of a case with an array of parameters, for a number.
DISTINCT = tuple(case for case in CASES if case.name not in ("gaussian", "silu", "elu"))


def names(case: Case) -> str:
    """Identifies a test by its case's name."""
    return case.name


def given(family: nodes.Family, words: Any, x: Any, e: Any) -> dict[str, Any]:
    """Everything a family computes for a known natural parameter."""
    return {
        "activation": family.activation(e),
        "mean": family.mean(e),
        "variance": family.variance(e),
        "sample": family.from_words(words, e),
        "log_prob": family.log_prob(x, e),
    }


def believed(family: nodes.Family, e: Any, variance: Any) -> dict[str, Any]:
    """Everything a family computes for a Gaussian natural parameter."""
    statistic, activation = family.moments(e, variance)
    return {
        "statistic_mean": statistic.mean,
        "statistic_variance": statistic.variance,
        "activation_mean": activation.mean,
        "activation_variance": activation.variance,
    }


# Compiled once per family and shape, and shared by all tests of a process.
compiled_given = jax.jit(given)
compiled_believed = jax.jit(believed)


def arguments(case: Case, dtype: Any = jnp.float32) -> tuple[Any, ...]:
    """Words, a possible statistic, natural parameters and variances."""
    e = jnp.asarray(case.e, dtype)
    words = random_words(jax.random.key(7), e.shape)[1]
    x = case.family.sample(jax.random.key(8), e)
    variance = jnp.asarray(np.linspace(0.0, 2.0, 8).reshape(2, 4), dtype)
    if case.bounded:
        variance = 0 * variance
    return words, x, e, variance


@jax.jit
def _from_words(family: nodes.Family, words: Any, e: Any) -> Any:
    return family.from_words(words, e)


@cache
def _many_words(seed: int, shape: tuple[int, ...]) -> Any:
    return jax.jit(random_words, static_argnums=1)(jax.random.key(seed), shape)[1]


def sampled(family: nodes.Family, seed: int, e: Any) -> np.ndarray:
    """`family.sample(jax.random.key(seed), e)` in float64.

    From the words that all families share (see `test_sample_is_word_one_of_the_key`), by one
    program for each family and shape.
    """
    words = _many_words(seed, e.shape)
    return np.asarray(_from_words(family, words, e), np.float64)


@cache
def samples(case: Case) -> np.ndarray:
    """100,000 samples for each of the case's natural parameters, in float64."""
    e = np.broadcast_to(np.asarray(case.e, np.float32), (100_000, 2, 4))
    return sampled(case.family, 2024, e)


def dense_grid(centre: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points and weights on [centre - width, centre + width], for each element.

    The interval is divided evenly, and at points that crowd geometrically around 0, so that kinks
    and features of any size at 0 are resolved.

    Returns:
        Two arrays of shape (number of points, *shape of centre), the points in order.
    """
    crowd = np.geomspace(1e-9, 2, 50)
    columns = np.polynomial.legendre.leggauss(16)
    columns += np.linspace(-1, 1, 241), np.concatenate([-crowd, [0.0], crowd])
    roots, weights, even, crowd = (v.reshape((-1,) + (1,) * centre.ndim) for v in columns)
    edges = np.concatenate([centre + width * even, (np.abs(centre) + width) * crowd])
    edges = np.sort(np.clip(edges, centre - width, centre + width), axis=0)
    half, middle = (edges[1:] - edges[:-1]) / 2, (edges[1:] + edges[:-1]) / 2
    points = middle[:, None] + half[:, None] * roots
    shape = (-1, *centre.shape)
    return points.reshape(shape), (half[:, None] * weights).reshape(shape)


def under_gaussian(mean: np.ndarray, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights for expectations over e ~ N(mean, variance), resolved around e = 0."""
    deviation = np.sqrt(variance)
    points, weights = dense_grid(mean, np.full(mean.shape, 10 * deviation))
    weights = weights * np.exp(-(((points - mean) / deviation) ** 2) / 2)
    return points, weights / weights.sum(0)


def weighted_moments(values: Any, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over the first axis."""
    values = np.asarray(values, np.float64)
    mean = np.sum(weights * values, axis=0)
    return mean, np.sum(weights * (values - mean) ** 2, axis=0)
