"""Lower bounds on the log-likelihood of a model with latent nodes, by a guide for these."""

from typing import Literal

from cgjax._procedure import Network, Procedure
from cgjax.inference._estimators import BoundOf
from cgjax.inference._of_observed import check_pair, check_word, of_observed


def elbo(
    model: Network,
    guide: Network,
    *,
    num_samples: int = 1,
    kl: Literal["analytic", "sampled"] = "analytic",
    gradient: Literal["pathwise", "straight_through"] = "pathwise",
) -> Procedure:
    """The evidence lower bound of a model with latent nodes, by a guide that proposes them.

        log p(x) >= E_q[log p(x, z) - log q(z | x)]
                  = E_q[log p(x | z)] - KL(q(z | x) || p(z))

    The model is a network whose nodes are what is observed, x, and what is latent, z. The guide is
    a network too: its nodes propose the latent ones, and are called as these. Where a node's
    conditionals in both are of families with `kl` in closed form, and the model's parents of it do
    not depend on it in the guide, the divergence stands in place of its average over samples.

    Nodes that are neither observed nor proposed, and that nothing observed or proposed depends on,
    are summed out: their probabilities sum to 1. So a part of the data may be missing.

    Of a node that is observed in part, p(x | z) is the sum over all its values that agree: exact,
    also for components whose nodes touch, such as a `LinearChain` of which positions are known.
    `SoftEvidence` about a node that the guide proposes multiplies p(x, z) by the weight of the
    state that was proposed.

    Args:
        model: a network of one example, `model(*args)`.
        guide: a network of one example, `guide(observed, *args)`: the dict of what is observed,
            then the model's arguments.
        num_samples: how many samples are averaged.
        kl: "analytic" where there is a closed form, and sampled elsewhere; or "sampled".
        gradient: the derivative through samples that have none, of discrete nodes. "pathwise" is
            without bias: it adds the score function's, with the other samples' average as baseline
            (so take several). "straight_through" takes the activation's, which is biased.

    Returns:
        `procedure(key, observed, *args) -> Bound`, of one example; `jax.vmap` for a batch. observed
        has a value for each observed node by full name, `PartlyKnown` elements of it, or
        `SoftEvidence`.

    Raises:
        ValueError: for unknown options; when called, if the guide has nodes that the model lacks,
            a node is missing or both observed and proposed (but for `SoftEvidence`), others depend
            on a node that is observed in part and not proposed, or shapes do not fit; if values are
            known, for grey levels under a Bernoulli node, and known positions that are not one-hot.
        TypeError: if model or guide is no network; when called, for an observation that is no
            array, weights of a family without a list of states, or a part of a `Grid` or
            `DenseGrid` whose sums are approximate.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def model(weight):
        ...     z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        ...     return cg.node(cg.nodes.Gaussian(0.5), weight @ z, name="x")
        >>> def guide(observed, weight):
        ...     mean = 0.5 * weight.T @ observed["x"]
        ...     return cg.node(cg.nodes.Gaussian(0.6), mean, name="z")
        >>> bound = cg.elbo(model, guide)(jax.random.key(0), {"x": jnp.ones(3)}, jnp.ones((3, 2)))
        >>> bound.value.shape, bound.log_weights.shape
        ((), (1,))

    Source: Kingma and Welling, "Auto-encoding variational Bayes", 2014; [C].
    """
    num_samples = check_pair(model, guide, num_samples, "elbo")
    check_word("elbo", "kl", kl, ("analytic", "sampled"))
    check_word("elbo", "gradient", gradient, ("pathwise", "straight_through"))
    bound = BoundOf(model, guide, num_samples, gradient, False, kl == "analytic")
    return of_observed(bound, model)


def importance_weighted(
    model: Network,
    guide: Network,
    *,
    num_samples: int,
    gradient: Literal["pathwise", "doubly_reparameterised", "vimco"] = "pathwise",
) -> Procedure:
    """The importance-weighted bound: the logarithm of an average over samples.

        log p(x) >= E[log (1/K) sum_k w_k],  w_k = p(x, z_k) / q(z_k | x),  z_k ~ q

    It is the ELBO for K = 1, and rises with K to log p(x). It is of one example: the logarithm
    belongs outside the average over samples and inside the sum over examples.

    Args:
        model, guide: as in `elbo`.
        num_samples: K.
        gradient: "pathwise", the derivative of the expression above; "doubly_reparameterised", of
            the same expectation, whose signal about the guide does not drown in noise as K grows;
            "vimco", for guides with discrete nodes, whose samples have no derivative: each is
            judged by what the others leave to it. It needs at least 2 samples.

    Returns:
        `procedure(key, observed, *args) -> Bound`, as `elbo`'s.

    Raises:
        ValueError, TypeError: as `elbo`; when called, if the guide has discrete nodes and the
            gradient is not "vimco".

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def model():
        ...     z = cg.node(cg.nodes.Spin(), jnp.zeros(3), name="z")
        ...     return cg.node(cg.nodes.Gaussian(1.0), z.sum(), name="x")
        >>> guide = lambda observed: cg.node(cg.nodes.Spin(), observed["x"] * jnp.ones(3), name="z")
        >>> bound = cg.importance_weighted(model, guide, num_samples=500, gradient="vimco")
        >>> bound(jax.random.key(0), {"x": jnp.array(1.0)}).value.round(1)
        Array(-1.7, dtype=float32)

    Source: Burda, Grosse and Salakhutdinov, "Importance weighted autoencoders", 2016; Tucker et
        al. 2019; Mnih and Rezende 2016.
    """
    num_samples = check_pair(model, guide, num_samples, "importance_weighted")
    words = ("pathwise", "doubly_reparameterised", "vimco")
    check_word("importance_weighted", "gradient", gradient, words)
    if gradient == "vimco" and num_samples < 2:
        raise ValueError('gradient="vimco" compares samples: num_samples is at least 2, got 1.')
    bound = BoundOf(model, guide, num_samples, gradient, True, False)
    return of_observed(bound, model)
