"""Labels of the pixels of an image, each of which touches its four neighbours ([A] section 3)."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key, Num

from cgjax._gaussian.numerics import wide
from cgjax.kernels import grids
from cgjax.kernels.grids import Labels
from cgjax.nodes._field import Field, Parameters
from cgjax.nodes._one_hot import value_of
from cgjax.nodes._strip import MOST_STATES, num_states, strip
from cgjax.nodes._values import require_parameter, with_slope


@dataclasses.dataclass(frozen=True, eq=False)
class Grid(Field):
    """A whole image of labels is one node, in which neighbours touch.

        P(x) ~ exp(sum_i e_i(x_i) + sum over neighbours i, j of C(x_i, x_j))

    Its statistic is the array of one-hot labels, and its activation approximate marginals: exact
    ones take time (labels)^(2 x the shorter side) for each row. Loopy belief propagation is the
    better approximation where couplings are weak or of middle strength, and exact on a line.

    Args:
        couplings: the score of a pair of neighbours, (labels, labels), or (2, labels, labels): of a
            label (row) and the one below it (column), then of a label and the one on its right.
        iterations: updates of every message, or of every place.
        inference: "belief_propagation", "mean_field" or "exact". The last one runs over the states
            of whole rows along the shorter side, of which there may be 1,024; samples, modes and
            `log_prob` are exact then, too, and there is an entropy.
        schedule: "sequential" (messages sweep over the image; places of a checkerboard in turn) or
            "parallel" (all at once).
        damping: share of the old message, or of the old probabilities, that an update keeps, from 0
            to below 1. More makes updates that swing settle down.
        sweeps: of Gibbs sampling, which a sample takes; it starts at the approximate marginals.

    Raises:
        ValueError: couplings of another shape, or not finite; unknown words; numbers out of range;
            too many states for exact inference.
        TypeError: from `log_prob`, unless inference is exact.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> node = Grid(2.0 * jnp.eye(2))  # neighbours tend to be equal
        >>> noisy = jnp.zeros((3, 3, 2)).at[..., 1].set(1.0).at[1, 1].set(jnp.array([1.0, 0.0]))
        >>> print(node.mode(noisy)[1, 1])
        [0. 1.]
        >>> node.activation(noisy).shape
        (3, 3, 2)

    Source: [A] section 3 (a non-bipartite last component, with inference of its own); Geman and
        Geman 1984 for its samples.
    """

    touching: ClassVar[str | None] = "neighbours in a grid"
    parameter_axes: ClassVar[Mapping[str, int]] = {"couplings": 3}

    couplings: Float[ArrayLike, "..."]
    iterations: int = dataclasses.field(default=10, metadata={"static": True})
    inference: str = dataclasses.field(default="belief_propagation", metadata={"static": True})
    schedule: str = dataclasses.field(default="sequential", metadata={"static": True})
    sweeps: int = dataclasses.field(default=50, metadata={"static": True})

    def __post_init__(self) -> None:
        shape = np.shape(self.couplings)
        alike = shape[:-2] in ((), (1,))  # below and beside
        if len(shape) < 2 or shape[-1] != shape[-2] or not (alike or shape[:-2] == (2,)):
            raise ValueError(
                f"Grid.couplings has shape {shape}; expected (labels, labels), or (2, labels, "
                "labels): of a label and the one below, then of a label and the one on its right."
            )
        require_parameter(
            self,
            "couplings",
            np.isfinite,
            "finite (a very unlikely pair has a coupling such as -20)",
        )
        if len(shape) == 2:  # with an axis for both directions, whatever is mapped
            on = jnp if isinstance(self.couplings, jax.Array) else np  # what is known stays known
            object.__setattr__(self, "couplings", on.asarray(self.couplings)[None])
        self._require_word("inference", ("belief_propagation", "mean_field", "exact"))
        self._require_word("schedule", ("sequential", "parallel"))
        self._require_counts("iterations", "sweeps")
        self._require_damping()

    def labels(self) -> int:
        """The number of labels."""
        return np.shape(self.couplings)[-1]

    @property
    def exact_mean(self) -> bool:
        """Whether inference is exact."""
        return self.inference == "exact"

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the shape is (..., height, width, labels), and small enough."""
        super().check(shape)
        if self.exact_mean and num_states(shape) > MOST_STATES:
            raise ValueError(
                f"Exact inference on a Grid of shape {tuple(shape[-3:])} has {shape[-1]}^"
                f"{min(shape[-3:-1])} states of a row, and {MOST_STATES} at most are possible. Use "
                "inference='belief_propagation' here."
            )

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "..."]:
        """The log-probability of one-hot labels, one number per image, if inference is exact.

        Raises:
            TypeError: it is not.
        """
        if not self.exact_mean:
            return super().log_prob(x, e)
        e = wide(self.natural_parameter(e))
        x = value_of(self, x, e.shape, 3).astype(e.dtype)
        found = self._each_image(self._log_prob, "(h,w,k),(h,w,k)", x, e, result="()")
        slope = self._each_image(self._given_others, "(h,w,k),(h,w,k)", x, e)
        return found[..., None, None, None] + jnp.sum(
            with_slope(jnp.zeros_like(x), x, slope), (-3, -2, -1), keepdims=True
        )

    def entropy(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        """-E[log P] of each image in nats, (...,), if inference is exact.

        Raises:
            TypeError: it is not.
        """
        if not self.exact_mean:
            return super().entropy(e)
        return self._each_image(
            self._entropy, "(h,w,k)", wide(self.natural_parameter(e)), result="()"
        )

    def _log_partition(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "..."]:
        if not self.exact_mean:
            return super()._log_partition(e)
        e = wide(self.natural_parameter(e))
        return self._each_image(self._log_sum, "(h,w,k)", e, result="()")

    def _log_sum(self, e: Labels, parameters: Parameters) -> Float[Array, ""]:
        return strip(e, _both(parameters)).log_partition()

    def _entropy(self, e: Labels, parameters: Parameters) -> Float[Array, ""]:
        return strip(e, _both(parameters)).entropy()

    def _log_prob(self, x: Labels, e: Labels, parameters: Parameters) -> Float[Array, ""]:
        return strip(e, _both(parameters)).log_prob(x)

    def _marginals(self, e: Labels, parameters: Parameters) -> Labels:
        if self.exact_mean:
            return strip(e, _both(parameters)).marginals()
        algorithm = grids.mean_field if self.inference == "mean_field" else grids.belief_propagation
        return algorithm(e, _both(parameters), self.iterations, self.damping, self.schedule)

    def _given_others(self, x: Labels, e: Labels, parameters: Parameters) -> Labels:
        return e + grids.pull(x, _both(parameters))

    def _drawn(self, key: Key[Array, ""], e: Labels, parameters: Parameters) -> Labels:
        if self.exact_mean:
            return strip(e, _both(parameters)).drawn(key)
        first, rest = jax.random.split(key)
        start = grids.drawn(first, jnp.log(self._marginals(e, parameters)))
        return grids.gibbs(rest, start, e, _both(parameters), self.sweeps)

    def _best(self, e: Labels, parameters: Parameters) -> Labels:
        if self.exact_mean:
            return strip(e, _both(parameters)).best()
        start = grids.best(self._marginals(e, parameters))
        return grids.conditional_modes(start, e, _both(parameters), self.sweeps)


def _both(parameters: Parameters) -> Float[Array, "2 labels labels"]:
    """The couplings of a label and the one below, and of a label and the one on its right."""
    (couplings,) = parameters
    return jnp.broadcast_to(couplings, (2, *couplings.shape[1:]))
