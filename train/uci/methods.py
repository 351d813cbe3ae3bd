"""The methods of the regression tables: what each trains, what it minimises, how it predicts.

All have the network, the two kinds of noise and the form of the objective in common,

    loss = average NLL + cost / number of examples

where the cost is the divergence of a posterior from the prior, or, for a single set of weights,
minus the logarithm of its prior density. The prior is N(0, output_prior^2) for the weights of the
output and N(0, prior^2) for all other parameters. The cost may rise to its full size in the course
of the training, see `train.uci.training`; at the end no posterior is tempered.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

import cgjax as cg
from cgjax import weights
from train.models.regression import initial, network
from train.uci.settings import Hyper, Noise

MEMBERS = 5  # of an ensemble
INITIAL_VARIANCE = 1e-3  # of each weight: small, so that the means are found first
# A step is bounded in posterior deviations, so natural gradient needs larger ones to move.
NATURAL_INITIAL_VARIANCE = 1e-2
NATURAL_VARIANCE_RATE = 0.03
CERTAIN_RATE = 0.01  # Adam's, for what is not uncertain
CONSTANTS = (  # what a result depends on besides its settings
    MEMBERS,
    INITIAL_VARIANCE,
    NATURAL_INITIAL_VARIANCE,
    NATURAL_VARIANCE_RATE,
    CERTAIN_RATE,
)


class Method(NamedTuple):
    """A method as pure functions of one run."""

    title: str
    # init(key, features, hidden, noise, hyper) -> params
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


def _initial(
    key: Any, features: int, hidden: int, noise: Noise, hyper: Hyper, variance: float | None = None
) -> dict[str, Any]:
    """The network, with a posterior of that variance if one is given, and the noise."""
    varying = noise == "heteroscedastic"
    net = initial(key, features, hidden, 2 if varying else 1)
    if varying:
        net["output"]["bias"] = net["output"]["bias"].at[1].set(hyper.first_noise)
    params = {"network": net if variance is None else weights.mean_field(net, variance)}
    return params if varying else params | {"log_noise": jnp.float32(hyper.first_noise)}


def _in_parts(one: Callable[[Any], cg.Belief], key: Any, samples: int) -> cg.Belief:
    """One prediction for each of several keys, a few at a time for the sake of memory."""
    return jax.lax.map(one, jax.random.split(key, samples), batch_size=min(10, samples))


def _known(x: Array) -> cg.Belief:
    return cg.Belief(x, jnp.zeros_like(x))


# -- posteriors


def _elbo(procedure: Any) -> Callable[..., Array]:
    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        posterior = params["network"]
        head, output = _likelihood(params, procedure(key, posterior, x))
        prior = {"output/kernel": hyper.output_prior, "*": hyper.prior}
        terms = weights.elbo(head, output, y, posterior, prior)
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
    init = functools.partial(_initial, variance=variance)
    return Method(title, init, _elbo(procedure), predict, natural)


# -- single sets of weights


def _map_loss(apply: Callable[..., Array]) -> Callable[..., Array]:
    """Minus the logarithm of the posterior density of weights."""

    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        head, output = _likelihood(params, _known(apply(params["network"], key, hyper, x)))
        net = params["network"]
        of_output = jnp.sum(net["output"]["kernel"] ** 2)
        others = sum(jnp.sum(w**2) for w in jax.tree.leaves(net)) - of_output
        cost = of_output / (2 * hyper.output_prior**2) + others / (2 * hyper.prior**2)
        return head.expected_nll(output, y).mean() + cost / examples

    return loss


def _stochastic(title: str, apply: Callable[..., Array]) -> Method:
    """A network with noise at its nodes, in training and in prediction."""

    def predict(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
        def one(key: Any) -> cg.Belief:
            output = apply(params["network"], key, hyper, x)
            head, output = _likelihood(params, _known(output))
            return head.predict(output)

        return _in_parts(one, key, samples)

    return Method(title, _initial, _map_loss(apply), predict)


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

    def init(key: Any, *args: Any) -> dict[str, Any]:
        return jax.vmap(lambda key: _initial(key, *args))(jax.random.split(key, MEMBERS))

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
