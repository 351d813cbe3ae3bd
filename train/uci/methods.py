"""The methods of the regression tables: what each trains, what it minimises, how it predicts.

All have the network, the two kinds of noise and the form of the objective in common,

    loss = average NLL + cost / number of examples

where the cost is the divergence of a posterior from the prior, or, for a single set of weights,
minus the logarithm of its prior density. The prior of every weight is N(0, prior^2). The posteriors
are not tempered: with less weight on the divergence, a few test rows get far too narrow densities,
which the validation rows of a small table do not show.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

import cgjax as cg
from cgjax import weights
from train.models.regression import initial, network

Noise = Literal["heteroscedastic", "homoscedastic"]
MethodName = Literal[
    "moments_natural",
    "moments_adam",
    "local_reparameterization",
    "weight_sample",
    "flipout",
    "ensemble",
    "dropout",
    "pcff",
]

MEMBERS = 5  # of an ensemble
INITIAL_VARIANCE = 1e-3  # of each weight: small, so that the means are found first
# A step of a mean is at most a standard deviation, so natural gradient needs larger ones to move.
NATURAL_INITIAL_VARIANCE = 1e-2
NATURAL_VARIANCE_RATE = 0.03
CERTAIN_RATE = 0.01  # Adam's, for what is not uncertain
INITIAL_LOG_NOISE = -1.0  # in scaled units, in which the target has variance 1
CONSTANTS = (  # what a result depends on besides its settings
    MEMBERS,
    INITIAL_VARIANCE,
    NATURAL_INITIAL_VARIANCE,
    NATURAL_VARIANCE_RATE,
    CERTAIN_RATE,
    INITIAL_LOG_NOISE,
)


class Hyper(NamedTuple):
    """What is chosen on validation data; numbers, or arrays over runs."""

    learning_rate: Any
    prior: Any = 1.0  # the standard deviation of the weights' prior
    rate: Any = 0.0  # of dropout or PCFF


class Method(NamedTuple):
    """A method as pure functions of one run."""

    title: str
    # init(key, features, hidden, noise) -> params
    init: Callable[..., Any]
    # loss(params, key, hyper, examples, x, y) -> loss of a batch; `examples` are in the data set
    loss: Callable[..., Array]
    # predict(params, key, hyper, samples, x) -> Belief[components, batch] about targets: the
    # components of an even mixture of Gaussians
    predict: Callable[..., cg.Belief]
    natural: bool = False  # whether posteriors are trained by natural gradient


# -- heads


def _likelihood(params: Any, output: cg.Belief) -> tuple[Any, cg.Belief]:
    """The head, and the beliefs in the form it takes."""
    if "log_noise" not in params:
        return weights.HeteroscedasticHead(), output
    mean_only = cg.Belief(output.mean[..., 0], output.variance[..., 0])
    return weights.GaussianHead(params["log_noise"]), mean_only


def _with_noise(net: Any, noise: Noise) -> dict[str, Any]:
    """Parameters with what the kind of noise needs."""
    if noise == "homoscedastic":
        return {"network": net, "log_noise": jnp.float32(INITIAL_LOG_NOISE)}
    return {"network": net}


def _initial(key: Any, features: int, hidden: int, noise: Noise) -> dict[str, Any]:
    net = initial(key, features, hidden, 1 if noise == "homoscedastic" else 2)
    if noise == "heteroscedastic":
        bias = net["output"]["bias"]
        net["output"]["bias"] = bias.at[1].set(INITIAL_LOG_NOISE)
    return net


def _in_parts(one: Callable[[Any], cg.Belief], key: Any, samples: int) -> cg.Belief:
    """One prediction for each of several keys, a few at a time for the sake of memory."""
    return jax.lax.map(one, jax.random.split(key, samples), batch_size=min(10, samples))


def _known(x: Array) -> cg.Belief:
    return cg.Belief(x, jnp.zeros_like(x))


# -- posteriors


def _posterior(variance: float) -> Callable[..., dict[str, Any]]:
    def init(key: Any, features: int, hidden: int, noise: Noise) -> dict[str, Any]:
        net = _initial(key, features, hidden, noise)
        return _with_noise(weights.mean_field(net, variance), noise)

    return init


def _elbo(procedure: Any) -> Callable[..., Array]:
    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        posterior = params["network"]
        head, output = _likelihood(params, procedure(key, posterior, x))
        terms = weights.elbo(head, output, y, posterior, hyper.prior)
        return terms.per_example(examples)

    return loss


def _moments_prediction(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
    del key, hyper, samples
    head, output = _likelihood(params, weights.deterministic(network)(None, params["network"], x))
    return jax.tree.map(lambda a: a[None], head.predict(output))


def _sampled_networks(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
    """Whole networks drawn from the posterior, however it was trained."""
    del hyper

    def one(key: Any) -> cg.Belief:
        output = weights.weight_sample(network)(key, params["network"], x)
        head, output = _likelihood(params, output)
        return head.predict(output)

    return _in_parts(one, key, samples)


def _variational(
    title: str, procedure: Any, predict: Any = _sampled_networks, natural: bool = False
) -> Method:
    variance = NATURAL_INITIAL_VARIANCE if natural else INITIAL_VARIANCE
    return Method(title, _posterior(variance), _elbo(procedure), predict, natural)


# -- single sets of weights


def _map_loss(apply: Callable[..., Array]) -> Callable[..., Array]:
    """Minus the logarithm of the posterior density of weights."""

    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        head, output = _likelihood(params, _known(apply(params["network"], key, hyper, x)))
        squares = sum(jnp.sum(w**2) for w in jax.tree.leaves(params["network"]))
        cost = squares / (2 * hyper.prior**2)
        return head.expected_nll(output, y).mean() + cost / examples

    return loss


def _stochastic(title: str, apply: Callable[..., Array]) -> Method:
    """A network with noise at its nodes, in training and in prediction."""

    def init(key: Any, features: int, hidden: int, noise: Noise) -> dict[str, Any]:
        return _with_noise(_initial(key, features, hidden, noise), noise)

    def predict(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
        def one(key: Any) -> cg.Belief:
            output = apply(params["network"], key, hyper, x)
            head, output = _likelihood(params, _known(output))
            return head.predict(output)

        return _in_parts(one, key, samples)

    return Method(title, init, _map_loss(apply), predict)


def _dropout(net: Any, key: Any, hyper: Hyper, x: Array) -> Array:
    # At rate 0 PCFF samples nothing but noise nodes: dropout.
    return cg.pcff(network, 0.0)(key, net, x, hyper.rate)


def _pcff(net: Any, key: Any, hyper: Hyper, x: Array) -> Array:
    return cg.pcff(network, hyper.rate)(key, net, x)


def _ensemble() -> Method:
    def plain(net: Any, key: Any, hyper: Hyper, x: Array) -> Array:
        del key, hyper
        return network(net, x)

    member = _map_loss(plain)

    def init(key: Any, features: int, hidden: int, noise: Noise) -> dict[str, Any]:
        def one(key: Any) -> dict[str, Any]:
            return _with_noise(_initial(key, features, hidden, noise), noise)

        return jax.vmap(one)(jax.random.split(key, MEMBERS))

    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        losses = jax.vmap(member, (0, None, None, None, None, None))(
            params, key, hyper, examples, x, y
        )
        return losses.sum()  # the members have nothing to do with each other

    def predict(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
        del samples

        def one(params: Any) -> cg.Belief:
            output = plain(params["network"], key, hyper, x)
            head, output = _likelihood(params, _known(output))
            return head.predict(output)

        return jax.vmap(one)(params)

    return Method("deep ensemble", init, loss, predict)


METHODS: dict[str, Method] = {
    "moments_natural": _variational(
        "moments, natural gradient",
        weights.deterministic(network),
        predict=_moments_prediction,
        natural=True,
    ),
    "moments_adam": _variational(
        "moments, Adam", weights.deterministic(network), predict=_moments_prediction
    ),
    "local_reparameterization": _variational(
        "local reparameterisation", weights.local_reparameterization(network)
    ),
    "weight_sample": _variational("Bayes by backprop", weights.weight_sample(network)),
    "flipout": _variational("flipout", weights.flipout(network)),
    "ensemble": _ensemble(),
    "dropout": _stochastic("MC dropout", _dropout),
    "pcff": _stochastic("PCFF", _pcff),
}

# What is tried on validation data, the most cautious first. The numbers were found on validation
# parts of a few splits.
CANDIDATES: dict[str, tuple[Hyper, ...]] = {
    "moments_natural": (Hyper(0.03, 1.0), Hyper(0.03, 2.0), Hyper(0.1, 2.0)),
    **{
        name: tuple(Hyper(0.01, prior) for prior in (1.0, 2.0))
        for name in ("moments_adam", "local_reparameterization", "weight_sample", "flipout")
    },
    "ensemble": tuple(Hyper(0.01, prior) for prior in (0.1, 0.3, 1.0)),
    "dropout": tuple(Hyper(0.01, rate=rate) for rate in (0.1, 0.05, 0.01)),
    "pcff": tuple(Hyper(0.01, rate=rate) for rate in (0.3, 0.1, 0.03)),
}


# -- optimisers


def optimiser(
    method: Method, hyper: Hyper, examples: Any, steps: Any
) -> optax.GradientTransformation:
    """Adam, or natural gradient for posteriors; the learning rate falls to 0 as a cosine.

    Args:
        method: what is trained.
        hyper: its `learning_rate` is that of the first step.
        examples: in the data set.
        steps: the number of steps of the training.
    """

    def falling(rate: Any) -> Callable[[Any], Any]:
        return lambda step: rate * (1 + jnp.cos(jnp.pi * step / steps)) / 2

    if not method.natural:
        return optax.adam(falling(hyper.learning_rate))
    natural = weights.natural_gradient(
        falling(hyper.learning_rate), falling(NATURAL_VARIANCE_RATE), number_of_examples=examples
    )
    return optax.partition(
        {"uncertain": natural, "certain": optax.adam(falling(CERTAIN_RATE))},
        weights.partition_labels,
    )
