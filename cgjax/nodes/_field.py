"""What random fields over the pixels of an image share, whatever touches what."""

import abc
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Never

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Key, Num, UInt32

from cgjax._gaussian.belief import Belief
from cgjax._gaussian.numerics import wide
from cgjax.kernels.grids import Labels
from cgjax.nodes._family import Family, or_nan, possible_or_minus_infinity

# What is known of an image beside the scores, such as its colours.
Seen = Float[Array, "rows columns channels"]
_OF_ONE = "(h,w,k),(a,b,c)->(h,w,k)"


@dataclasses.dataclass(frozen=True, eq=False)
class Field(Family):
    """An image of labels as one node: e and the statistic have the shape (..., H, W, labels).

    Attributes:
        exact_mean: whether `mean` is the expectation, as it is for every other family. Here it is
            what approximate inference finds, and equal to the activation.
    """

    discrete: ClassVar[bool] = True
    kinds: ClassVar[frozenset[str]] = frozenset({"node"})
    exact_mean: ClassVar[bool] = False

    damping: float = dataclasses.field(default=0.0, metadata={"static": True}, kw_only=True)

    @abc.abstractmethod
    def labels(self) -> int:
        """The number of labels of a pixel."""

    @abc.abstractmethod
    def _marginals(self, e: Labels, seen: Seen) -> Labels:
        """Approximate marginals of one image, in at least float32."""

    @abc.abstractmethod
    def _given_others(self, x: Labels, e: Labels, seen: Seen) -> Labels:
        """Scores of each pixel's labels given the labels x of all others."""

    @abc.abstractmethod
    def _drawn(self, key: Key[Array, ""], e: Labels, seen: Seen) -> Labels:
        """One-hot labels of one image, drawn by Gibbs sampling."""

    @abc.abstractmethod
    def _best(self, e: Labels, seen: Seen) -> Labels:
        """One-hot labels of one image at a local maximum."""

    def _seen(self, e: Float[Array, "... height width labels"]) -> Float[Array, "..."]:
        """What is known of each image beside the scores; leading axes broadcast against e's."""
        return jnp.zeros((1,) * e.ndim, e.dtype)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the shape is (..., height, width, labels)."""
        if len(shape) < 3 or shape[-1] != self.labels() or 0 in shape[-3:]:
            raise ValueError(
                f"{type(self).__name__} needs a natural parameter of shape (..., height, width, "
                f"{self.labels()}): a score for each label of each pixel; got {tuple(shape)}."
            )

    def mask_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """`(..., 1, 1, 1)`: an image is one node."""
        self.check(shape)
        return (*shape[:-3], 1, 1, 1)

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Approximate marginals of the labels, shape and dtype of e."""
        e = self.natural_parameter(e)
        return self.mean(e).astype(e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Approximate marginals, in at least float32."""
        e = wide(self.natural_parameter(e))
        return jnp.vectorize(self._marginals, signature=_OF_ONE)(e, self._seen(e))

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """p (1 - p) of each indicator, p being its approximate marginal."""
        p = self.mean(e)
        return p * (1 - p)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """One-hot labels after `sweeps` of Gibbs sampling; no gradient.

        An image's first two words are the key of its random numbers. NaN where e has one.
        """
        e = lax.stop_gradient(self.natural_parameter(e))
        precise = wide(e)
        flat = words.reshape(*words.shape[:-3], -1)
        rest = max(0, 2 - flat.shape[-1])
        data = jnp.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, rest)])[..., :2]
        keys = jax.random.wrap_key_data(data, impl="threefry2x32")
        drawn = jnp.vectorize(self._drawn, signature=f"(),{_OF_ONE}")(
            keys, precise, self._seen(precise)
        )
        return or_nan(_all_are_numbers(e), drawn).astype(e.dtype)

    def log_prob(self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]) -> Never:
        """Raises: the sum over all images of labels is out of reach.

        Raises:
            NotImplementedError: always; the message names the way out.
        """
        raise NotImplementedError(
            f"The probability of an image of labels under a {type(self).__name__} has a "
            "normalising sum over all images, which nobody can compute. Use "
            "`cgjax.pseudo_likelihood(net)`, which multiplies the probability of each pixel's "
            "label given the others, or compare unnormalised scores."
        )

    def pseudo_log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """Sum over pixels of log P(its label | all other labels), one number per image.

        -inf, with a gradient of zero, if x is not one-hot or a label is impossible.

        Source: Besag 1975.
        """
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        chosen = x == 1
        one_hot = jnp.all(chosen | (x == 0), axis=-1) & (jnp.sum(chosen, axis=-1) == 1)
        scores = jnp.vectorize(self._given_others, signature=f"(h,w,k),{_OF_ONE}")
        log_probability = jax.nn.log_softmax(scores(x, e, self._seen(e)))
        value = jnp.sum(jnp.where(chosen, log_probability, 0), axis=-1)
        axes = (-3, -2, -1)
        total = jnp.sum(value[..., None], axis=axes, keepdims=True)
        possible = jnp.all(one_hot[..., None], axis=axes, keepdims=True) & (total != -jnp.inf)
        return possible_or_minus_infinity(jnp.sum(x, axes, keepdims=True), possible, total)

    def mode(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """One-hot labels at a local maximum of the probability; shape and dtype of e.

        From the most probable label of each pixel on, pixels take the best label given their
        neighbours, `sweeps` times at most.
        """
        e = self.natural_parameter(e)
        precise = lax.stop_gradient(wide(e))
        best = jnp.vectorize(self._best, signature=_OF_ONE)(precise, self._seen(precise))
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
        variance = jnp.broadcast_to(variance, mean.shape)
        own = p**2 * ((1 - 2 * p) * variance + jnp.sum(p**2 * variance, -1, keepdims=True))
        return Belief(p, p * (1 - p)), Belief(p, own)

    def bounds(self) -> tuple[ArrayLike, ArrayLike]:
        """0 and 1, of each indicator."""
        return 0.0, 1.0

    def states(self, size: int = 1) -> Never:
        """Raises: an image has (labels)^(pixels) values.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"{type(self).__name__} has as many values as there are images of labels, which "
            "cannot be listed; its `mean` is approximate too. Use sampling here."
        )

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
    return ~jnp.any(jnp.isnan(e), axis=(-3, -2, -1), keepdims=True)
