"""Labels of the pixels of an image, each of which touches its four neighbours ([A] section 3)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Key

from cgjax.kernels import grids
from cgjax.nodes._family import require_parameter
from cgjax.nodes._field import Field, Seen


@dataclasses.dataclass(frozen=True, eq=False)
class Grid(Field):
    """A whole image of labels is one node, in which neighbours touch.

        P(x) ~ exp(sum_i e_i(x_i) + sum over neighbours i, j of C(x_i, x_j))

    Its statistic is the array of one-hot labels, and its activation approximate marginals: exact
    ones would take (labels)^(the shorter side) operations. Loopy belief propagation is the better
    approximation where couplings are weak or of middle strength, and exact on a single line.

    Args:
        couplings: the score of a pair of neighbours, (labels, labels), or (2, labels, labels): of a
            label (row) and the one below it (column), then of a label and the one on its right.
        iterations: updates of every message, or of every place.
        inference: "belief_propagation" or "mean_field".
        schedule: "sequential" (messages sweep over the image; places of a checkerboard in turn) or
            "parallel" (all at once).
        damping: share of the old message, or of the old probabilities, that an update keeps, from 0
            to below 1. More makes updates that swing settle down.
        sweeps: of Gibbs sampling, which a sample takes; it starts at the approximate marginals.

    Raises:
        ValueError: couplings of another shape, or not finite; unknown words; numbers out of range.

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

    couplings: Float[ArrayLike, "..."]
    iterations: int = dataclasses.field(default=10, metadata={"static": True})
    inference: str = dataclasses.field(default="belief_propagation", metadata={"static": True})
    schedule: str = dataclasses.field(default="sequential", metadata={"static": True})
    sweeps: int = dataclasses.field(default=50, metadata={"static": True})

    def __post_init__(self) -> None:
        shape = np.shape(self.couplings)
        if len(shape) not in (2, 3) or shape[-1] != shape[-2] or shape[:-2] not in ((), (2,)):
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
        self._require_word("inference", ("belief_propagation", "mean_field"))
        self._require_word("schedule", ("sequential", "parallel"))
        self._require_counts("iterations", "sweeps")
        self._require_damping()

    def labels(self) -> int:
        """The number of labels."""
        return np.shape(self.couplings)[-1]

    def _pairs(self, like: Array) -> grids.Couplings:
        couplings = jnp.asarray(self.couplings, like.dtype)
        return jnp.broadcast_to(couplings, (2, *couplings.shape[-2:]))

    def _marginals(self, e: grids.Labels, seen: Seen) -> grids.Labels:
        algorithm = grids.mean_field if self.inference == "mean_field" else grids.belief_propagation
        return algorithm(e, self._pairs(e), self.iterations, self.damping, self.schedule)

    def _given_others(self, x: grids.Labels, e: grids.Labels, seen: Seen) -> grids.Labels:
        return e + grids.pull(x, self._pairs(e))

    def _drawn(self, key: Key[Array, ""], e: grids.Labels, seen: Seen) -> grids.Labels:
        first, rest = jax.random.split(key)
        start = grids.drawn(first, jnp.log(self._marginals(e, seen)))
        return grids.gibbs(rest, start, e, self._pairs(e), self.sweeps)

    def _best(self, e: grids.Labels, seen: Seen) -> grids.Labels:
        start = grids.best(self._marginals(e, seen))
        return grids.conditional_modes(start, e, self._pairs(e), self.sweeps)
