"""What is minimised: the ELBO, and the marginal objective of [B] Algorithm 1.

The convention, everywhere: `nll` is the average over the examples of a batch, `kl` is that of all
weights, in nats, so that

    loss = nll + temperature * kl / number_of_examples

is the negative ELBO of a data set of that many examples, divided by their number.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cgjax._gaussian.belief import Belief
from cgjax._static import Tree
from cgjax.weights._heads import Head
from cgjax.weights._kl import kl
from cgjax.weights._posterior import not_positive


class Loss(NamedTuple):
    """The two parts of an objective.

    Attributes:
        nll: the negative log-likelihood, averaged over the batch.
        kl: the divergence of the posterior from the prior, of all weights.
    """

    nll: Float[Array, ""]
    kl: Float[Array, ""]

    def per_example(
        self, number_of_examples: ArrayLike, temperature: ArrayLike = 1.0
    ) -> Float[Array, ""]:
        """nll + temperature * kl / number_of_examples.

        Args:
            number_of_examples: in the data set, not in the batch.
            temperature: 1 is Bayes' rule; less is a "cold" posterior; 0 leaves the KL out.

        Raises:
            ValueError: the number of examples is not positive, or the temperature negative.
        """
        if not_positive(number_of_examples):
            raise ValueError(f"number_of_examples is positive, got {number_of_examples}.")
        if isinstance(temperature, int | float) and temperature < 0:
            raise ValueError(f"temperature is at least 0, got {temperature}.")
        return self.nll + temperature * self.kl / number_of_examples


def elbo(head: Head, output: Belief, y: Tree, posterior: Tree, prior: Tree = 1.0) -> Loss:
    """The expected negative log-likelihood, and the divergence: the parts of the negative ELBO.

    Args:
        head: the likelihood.
        output: the belief about the network's outputs for a batch, from any procedure for weights.
        y: the targets, with examples along the leading axis.
        posterior, prior: as for `kl`.

    Returns:
        `Loss(nll, kl)`; what is minimised is `loss.per_example(number_of_examples)`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params["w"]
        >>> posterior = cg.weights.mean_field({"w": jnp.zeros(2)}, 0.1)
        >>> x, y = jnp.ones((4, 2)), jnp.ones(4)
        >>> output = cg.weights.deterministic(f)(None, posterior, x)
        >>> loss = cg.weights.elbo(cg.weights.GaussianHead(), output, y, posterior)
        >>> print(loss.nll.round(3), loss.kl.round(3), loss.per_example(4).round(3))
        1.519 1.403 1.87

    Source: [B] Eq. 2.
    """
    return Loss(_per_example(head.expected_nll(output, y)), kl(posterior, prior))


def marginal(head: Head, output: Belief, y: Tree, posterior: Tree, prior: Tree = 1.0) -> Loss:
    """The marginal negative log-likelihood -log E_q p(y | f) in place of the expected one.

    [B] Theorem 1 and Algorithm 1 differentiate this one. Summed over a data set and minimised, it
    has another optimum than the ELBO: on regression with a conjugate prior, variances 3 to 18 times
    too large. It is right for updates with one example at a time, see `assumed_density`.

    Args, returns:
        As `elbo`.

    Source: [B] Theorem 1, Algorithm 1.
    """
    return Loss(_per_example(head.marginal_nll(output, y)), kl(posterior, prior))


def _per_example(values: Array) -> Array:
    """The sum over all axes but the leading one, averaged over that."""
    return values.sum() / (values.shape[0] if jnp.ndim(values) else 1)
