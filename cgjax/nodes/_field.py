"""What random fields over the pixels of an image share, whatever touches what."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, Key, Num, UInt32

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import complement_of
from cgjax.kernels.grids import Labels
from cgjax.nodes._one_hot import OneHotPositions, digits, value_of
from cgjax.nodes._values import or_nan, possible_or_minus_infinity

# The parameters of one image, such as couplings or colours, in the order of `parameter_axes`.
Parameters = tuple[Float[Array, "..."], ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Field(OneHotPositions):
    """An image of labels as one node: e and the statistic have the shape (..., H, W, labels).

    Attributes:
        parameter_axes: how many axes each parameter of one image has, by name.
    """

    parameter_axes: ClassVar[Mapping[str, int]]

    damping: float = dataclasses.field(default=0.0, metadata={"static": True}, kw_only=True)

    @property
    def exact_mean(self) -> bool:
        """Whether `mean` is the expectation, as it is for every other family.

        Else it is what approximate inference finds. It is equal to the activation.
        """
        return False

    @abc.abstractmethod
    def labels(self) -> int:
        """The number of labels of a pixel."""

    @abc.abstractmethod
    def _marginals(self, e: Labels, parameters: Parameters) -> Labels:
        """Approximate marginals of one image, in at least float32."""

    @abc.abstractmethod
    def _given_others(self, x: Labels, e: Labels, parameters: Parameters) -> Labels:
        """Scores of each pixel's labels given the labels x of all others."""

    @abc.abstractmethod
    def _drawn(self, key: Key[Array, ""], e: Labels, parameters: Parameters) -> Labels:
        """One-hot labels of one image, drawn by Gibbs sampling."""

    @abc.abstractmethod
    def _best(self, e: Labels, parameters: Parameters) -> Labels:
        """One-hot labels of one image at a local maximum."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        cls.extra_axes = {name: axes - 3 for name, axes in cls.parameter_axes.items()}

    def _each_image(
        self, function: Callable[..., Array], first: str, *arrays: Array, result: str = "(h,w,k)"
    ) -> Float[Array, "..."]:
        """A function of one image and its parameters, of each image.

        Args:
            function: of one image's part of the arrays, and its parameters.
            first: the axes of these parts, as `jnp.vectorize` writes them.
            arrays: the last one is e.
            result: the axes of one image's result.
        """
        leading, dtype = arrays[-1].ndim - 3, arrays[-1].dtype
        parameters, cores, letters = [], [first], iter("abcdefgijlmnopq")
        for name, axes in self.parameter_axes.items():
            value = getattr(self, name)
            parameter = jnp.asarray(np.zeros((1,) * axes) if value is None else value, dtype)
            ones = (1,) * (leading + axes - parameter.ndim)
            parameters.append(parameter.reshape(ones + parameter.shape))
            cores.append(f"({','.join(next(letters) for _ in range(axes))})")
        signature = f"{','.join(cores)}->{result}"

        def of_one(*parts: Array) -> Array:
            own = len(arrays)
            return function(*parts[:own], parts[own:])

        return jnp.vectorize(of_one, signature=signature)(*arrays, *parameters)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the shape is (..., height, width, labels)."""
        self.mask_shape(shape)
        if shape[-1] != self.labels():
            raise ValueError(
                f"{type(self).__name__} needs a natural parameter of shape (..., height, width, "
                f"{self.labels()}): a score for each label of each pixel; got {tuple(shape)}."
            )

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(..., 1, 1, 1)`: an image is one node."""
        if len(shape) < 3 or 0 in shape[-3:]:
            raise ValueError(
                f"{type(self).__name__} needs a natural parameter of shape (..., height, width, "
                f"labels), none of which is 0; got {tuple(shape)}."
            )
        return (*shape[:-3], 1, 1, 1)

    def natural_parameter(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """`e` as an array; where it is known, each pixel must have a possible label.

        Raises:
            TypeError: e is not real floating point.
            ValueError: as `check`; or a pixel has no possible label.
        """
        e = super().natural_parameter(e)
        if not isinstance(e, Tracer):
            never = np.isneginf(np.asarray(e, np.float64)).all(-1)
            if never.any():
                raise ValueError(
                    f"{type(self).__name__}: {int(never.sum())} of {never.size} pixels have no "
                    f"possible label (the first: {tuple(map(int, np.argwhere(never)[0]))}): all "
                    "scores of it are -inf. Use a large negative number, such as -1e4, for what is "
                    "merely unlikely"
                )
        return e

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Approximate marginals of the labels, shape and dtype of e."""
        e = self.natural_parameter(e)
        return self.mean(e).astype(e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Approximate marginals, in at least float32; 0 where a pixel has no possible label."""
        e = wide(self.natural_parameter(e))
        possible = _possible(e)
        found = self._each_image(self._marginals, "(h,w,k)", jnp.where(possible, e, 0))
        return jnp.where(possible, found, 0)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """p (1 - p) of each indicator, p being its approximate marginal."""
        p = self.mean(e)
        return p * complement_of(p, -1)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """One-hot labels after `sweeps` of Gibbs sampling; no gradient.

        An image's first two words are the key of its random numbers. NaN where e has one, and where
        a pixel has no possible label.
        """
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        flat = words.reshape(*words.shape[:-3], math.prod(words.shape[-3:]))
        rest = max(0, 2 - flat.shape[-1])
        data = jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, rest)])[..., :2]
        keys = jax.random.wrap_key_data(data, impl="threefry2x32")
        drawn = self._each_image(self._drawn, "(),(h,w,k)", keys, precise)
        return or_nan(_all_are_numbers(e), drawn).astype(e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """No field has it in general: its normalising sum over all images is out of reach.

        Raises:
            TypeError: the message names the ways out.
        """
        raise self._no_sum()

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """No field has it in general, as little as a probability.

        Raises:
            TypeError: the message names the way out.
        """
        raise TypeError(
            f"The entropy of an image of labels under a {type(self).__name__} has a normalising "
            "sum over all images, which nobody can compute. A Grid whose shorter side is a few "
            "pixels has it with inference='exact'."
        )

    def _log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        raise self._no_sum()

    def _no_sum(self) -> TypeError:
        return TypeError(
            f"The probability of an image of labels under a {type(self).__name__} has a "
            "normalising sum over all images, which nobody can compute. Use "
            "`cgjax.pseudo_likelihood(net)`, which multiplies the probability of each pixel's "
            "label given the others; or, for a Grid whose shorter side is a few pixels, "
            "inference='exact'."
        )

    def pseudo_log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """Sum over pixels of log P(its label | all other labels), one number per image.

        -inf, with a gradient of zero, if x is not one-hot or a label is impossible.

        Source: Besag 1975.
        """
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(value_of(self, x, e.shape, 3), e.dtype)
        chosen = x == 1
        one_hot = jnp.all(chosen | (x == 0), axis=-1) & (jnp.sum(chosen, axis=-1) == 1)
        some = _possible(e)
        scores = jnp.where(some, e, 0)
        scores = self._each_image(self._given_others, "(h,w,k),(h,w,k)", x, scores)
        log_probability = jax.nn.log_softmax(scores)
        value = jnp.sum(jnp.where(chosen, log_probability, 0), axis=-1)
        axes = (-3, -2, -1)
        total = jnp.sum(value[..., None], axis=axes, keepdims=True)
        possible = jnp.all(one_hot[..., None], axis=axes, keepdims=True) & (total != -jnp.inf)
        possible &= some
        return possible_or_minus_infinity(jnp.sum(x, axes, keepdims=True), possible, total)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """One-hot labels at a local maximum of the probability; shape and dtype of e.

        From the most probable label of each pixel on, pixels take the best label given the others,
        `sweeps` times. NaN as a sample is.
        """
        e = self.natural_parameter(e)
        best = self._each_image(self._best, "(h,w,k)", lax.stop_gradient(wide(e)))
        return or_nan(_all_are_numbers(e), best).astype(e.dtype)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "..."]
    ) -> tuple[Belief, Belief]:
        """Beliefs to first order, when e ~ N(mean, variance).

        The marginals p at the mean of e; p (1 - p) is the variance of the indicators. Of the
        activation's variance, what a pixel's own scores add is counted, to first order, as if its
        neighbours' were known: d p_k / d e_l = p_k ([k = l] - p_l).
        """
        mean, variance = self._gaussian_parameter(mean, variance)
        p = self.mean(mean)
        rest, variance = complement_of(p, -1), jnp.broadcast_to(variance, mean.shape)
        squares = p**2 * variance
        others = jnp.maximum(jnp.sum(squares, -1, keepdims=True) - squares, 0)
        return Belief(p, p * rest), Belief(p, p**2 * (rest**2 * variance + others))

    def num_states(self, shape: tuple[int, ...]) -> int:
        """(labels)^(pixels), the number of images of labels.

        Raises:
            TypeError: `mean` is not exact, so that neither is what is computed from it.
        """
        if not self.exact_mean:
            raise TypeError(
                f"The mean of a {type(self).__name__} is approximate, so that nothing exact can be "
                "computed from it. Use sampling here; or, for a Grid whose shorter side is a few "
                "pixels, inference='exact'."
            )
        return shape[-1] ** (shape[-3] * shape[-2])

    def in_states(self, numbers: Int[Array, "..."], shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The one-hot labels of these numbers, read as numbers of one digit a pixel."""
        height, width, labels = shape[-3:]
        pixels = digits(numbers[..., 0, 0, 0], height * width, labels)
        return jax.nn.one_hot(pixels.reshape(*shape[:-3], height, width), labels, dtype=float)

    def _require_word(self, name: str, words: Sequence[str]) -> None:
        if getattr(self, name) not in words:
            raise ValueError(
                f"{type(self).__name__}.{name} must be one of {', '.join(map(repr, words))}, got "
                f"{getattr(self, name)!r}"
            )

    def _require_counts(self, *names: str) -> None:
        for name in names:
            count = getattr(self, name)
            if not isinstance(count, int) or isinstance(count, bool) or count < 1:
                raise ValueError(
                    f"{type(self).__name__}.{name} must be an integer of at least 1, got {count!r}"
                )

    def _require_damping(self) -> None:
        if not 0 <= self.damping < 1:
            raise ValueError(
                f"{type(self).__name__}.damping must be at least 0 and below 1, got {self.damping}"
            )


def _all_are_numbers(e: Array) -> Array:
    return _possible(e) & ~jnp.any(jnp.isnan(e), axis=(-3, -2, -1), keepdims=True)


def _possible(e: Array) -> Array:
    """For which images each pixel has a label that is not excluded."""
    return ~jnp.any(jnp.all(e == -jnp.inf, -1, keepdims=True), (-3, -2), keepdims=True)
