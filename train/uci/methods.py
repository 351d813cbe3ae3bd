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
FIRST_VARIANCE = 1e-3  # of each weight: small, so that the means are found first
# A step is bounded in posterior deviations, so natural gradient needs larger ones to move.
NATURAL_FIRST_VARIANCE = 1e-2
NATURAL_VARIANCE_RATE = 0.03
CERTAIN_RATE = 0.01  # Adam's, for what is not uncertain
# What a result depends on besides its settings.
CONSTANTS = (MEMBERS, FIRST_VARIANCE, NATURAL_FIRST_VARIANCE, NATURAL_VARIANCE_RATE, CERTAIN_RATE)

Forward = Callable[[Any, Any, Hyper, Array], cg.Belief]  # (network, key, hyper, x) -> outputs


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


def _likelihood(params: Any, output: cg.Belief) -> tuple[Any, cg.Belief]:
    """The head, and the beliefs in the form it takes."""
    if "log_noise" not in params:
        return weights.HeteroscedasticHead(), output
    mean_only = cg.Belief(output.mean[..., 0], output.variance[..., 0])
    return weights.GaussianHead(params["log_noise"]), mean_only


def _initial(
    key: Any, features: int, hidden: int, noise: Noise, hyper: Hyper, variance: float | None
) -> dict[str, Any]:
    """The network, with a posterior of that variance if one is given, and the noise."""
    varying = noise == "heteroscedastic"
    net = initial(key, features, hidden, 2 if varying else 1)
    if varying:
        net["output"]["bias"] = net["output"]["bias"].at[1].set(hyper.first_noise)
    params = {"network": net if variance is None else weights.mean_field(net, variance)}
    return params if varying else params | {"log_noise": jnp.float32(hyper.first_noise)}


def _divergence(posterior: Any, hyper: Hyper) -> Array:
    return weights.kl(posterior, {"output/kernel": hyper.output_prior, "*": hyper.prior})


def _minus_log_prior(net: Any, hyper: Hyper) -> Array:
    of_output = jnp.sum(net["output"]["kernel"] ** 2)
    others = sum(jnp.sum(w**2) for w in jax.tree.leaves(net)) - of_output
    return of_output / (2 * hyper.output_prior**2) + others / (2 * hyper.prior**2)


def _method(
    title: str,
    forward: Forward,
    predicted: Forward | None = None,
    *,
    variance: float | None = None,
    natural: bool = False,
    draws: bool = True,
) -> Method:
    """A method for one network: with a posterior if there is a first variance of its weights, and
    whose predictions, made by `predicted` if that differs from training, are mixed over draws."""
    cost = _minus_log_prior if variance is None else _divergence

    def loss(params: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array) -> Array:
        head, output = _likelihood(params, forward(params["network"], key, hyper, x))
        return head.expected_nll(output, y).mean() + cost(params["network"], hyper) / examples

    def predict(params: Any, key: Any, hyper: Hyper, samples: int, x: Array) -> cg.Belief:
        def one(key: Any) -> cg.Belief:
            output = (predicted or forward)(params["network"], key, hyper, x)
            head, output = _likelihood(params, output)
            return head.predict(output)

        if not draws:
            return jax.tree.map(lambda a: a[None], one(key))
        # A few at a time for the sake of memory.
        return jax.lax.map(one, jax.random.split(key, samples), batch_size=min(10, samples))

    return Method(title, functools.partial(_initial, variance=variance), loss, predict, natural)


def _weights(procedure: Any) -> Forward:
    run = procedure(network)
    return lambda posterior, key, hyper, x: run(key, posterior, x)


def _known(apply: Callable[..., Array]) -> Forward:
    def forward(net: Any, key: Any, hyper: Hyper, x: Array) -> cg.Belief:
        output = apply(net, key, hyper, x)
        return cg.Belief(output, jnp.zeros_like(output))

    return forward


def _posterior(title: str, procedure: Any) -> Method:
    """Sampled while it is trained; whole networks are drawn from it to predict."""
    drawn = _weights(weights.weight_sample)
    return _method(title, _weights(procedure), drawn, variance=FIRST_VARIANCE)


def _moments(title: str, variance: float, natural: bool) -> Method:
    forward = _weights(weights.deterministic)
    return _method(title, forward, variance=variance, natural=natural, draws=False)


def _ensemble() -> Method:
    one = _method("deep ensemble", _known(lambda net, key, hyper, x: network(net, x)), draws=False)

    def init(key: Any, *args: Any) -> dict[str, Any]:
        return jax.vmap(lambda key: one.init(key, *args))(jax.random.split(key, MEMBERS))

    def loss(*args: Any) -> Array:
        # The members have nothing to do with each other.
        return jax.vmap(one.loss, (0, *[None] * 5))(*args).sum()

    def predict(params: Any, *args: Any) -> cg.Belief:
        output = jax.vmap(lambda params: one.predict(params, *args))(params)
        return jax.tree.map(lambda a: a[:, 0], output)

    return Method(one.title, init, loss, predict)


METHODS: dict[str, Method] = {
    "moments_natural": _moments("moments, natural gradient", NATURAL_FIRST_VARIANCE, True),
    "moments_adam": _moments("moments, Adam", FIRST_VARIANCE, False),
    "local_reparameterization": _posterior(
        "local reparameterisation", weights.local_reparameterization
    ),
    "weight_sample": _posterior("Bayes by backprop", weights.weight_sample),
    "flipout": _posterior("flipout", weights.flipout),
    "ensemble": _ensemble(),
    # At rate 0 PCFF samples nothing but noise nodes: dropout.
    "dropout": _method(
        "MC dropout",
        _known(lambda net, key, hyper, x: cg.pcff(network, 0.0)(key, net, x, hyper.rate)),
    ),
    "pcff": _method(
        "PCFF", _known(lambda net, key, hyper, x: cg.pcff(network, hyper.rate)(key, net, x))
    ),
}


def optimiser(
    method: Method, hyper: Hyper, examples: Any, steps: Any
) -> optax.GradientTransformation:
    """Adam, or natural gradient for posteriors; the learning rate falls to 0 as a cosine, over the
    steps of the training."""

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
