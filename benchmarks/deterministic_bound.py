"""How far is the ELBO by moments from the ELBO, and what does it cost?

Variational autoencoders of 8 latent numbers on scikit-learn's digits, binarised, with a hidden
layer of 64 in decoder and encoder: before training, and after 1,500 steps on the sampled bound, and
on the deterministic one with and without what hidden units have in common. Of each, on images that
were not trained on:

- the ELBO, by 400 samples, in nats of an image; what the deterministic bounds say more than that;
- the error of gradients of the bound of 100 images, relative to the gradient's length: the standard
  deviation of those by 1, 10 and 100 samples, and the distance of the deterministic ones.

And the time of a training step by each, relative to that by one sample.

    python -m benchmarks.deterministic_bound         # about 3 minutes on 2 cores
    python -m benchmarks.deterministic_bound --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

import cgjax as cg
from benchmarks.records import Table
from benchmarks.timing import Prepared, compared, descent
from train.data import images

PIXELS, HIDDEN, LATENT, BATCH = 64, 64, 8, 100
DECODERS = {"tanh": jnp.tanh, "ReLU": jax.nn.relu}
SAMPLES = (1, 10, 100)
COVARIANCES: dict[str, Any] = {"moments": "linear", "moments, independent": "none"}
Loss = Callable[[Any, Any, Any], jax.Array]  # of parameters, a key and images


def start() -> Any:
    """Random parameters."""
    shapes = {
        "encode": (PIXELS, HIDDEN),
        "mean": (HIDDEN, LATENT),
        "log_scale": (HIDDEN, LATENT),
        "decode": (LATENT, HIDDEN),
        "out": (HIDDEN, PIXELS),
    }
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = {
        name: {"w": jax.random.normal(key, shape) / shape[0] ** 0.5, "b": jnp.zeros(shape[1])}
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    params["log_scale"]["w"] *= 0.1
    return params


def layer(p: Any, x: Any) -> Any:
    """An affine map."""
    return x @ p["w"] + p["b"]


def decoder(activation: str, p: Any) -> Any:
    """The model of an image."""
    z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(LATENT), name="z")
    hidden = DECODERS[activation](layer(p["decode"], z))
    return cg.node(cg.nodes.Bernoulli(), layer(p["out"], hidden), name="x")


def encoder(observed: Any, p: Any) -> Any:
    """The guide."""
    hidden = jnp.tanh(layer(p["encode"], observed["x"]))
    scale = jnp.exp(layer(p["log_scale"], hidden))
    return cg.node(cg.nodes.Gaussian(scale), layer(p["mean"], hidden), name="z")


def sampled(activation: str, samples: int) -> Loss:
    """The negative bound by samples, averaged over images."""
    bound = cg.elbo(partial(decoder, activation), encoder, num_samples=samples)

    def loss(p: Any, key: Any, x: Any) -> jax.Array:
        keys = jax.random.split(key, len(x))
        return -jax.vmap(bound, (0, 0, None))(keys, {"x": x}, p).value.mean()

    return loss


def deterministic(activation: str, covariance: Any) -> Loss:
    """The negative bound by moments, averaged over images."""
    bound = cg.deterministic_elbo(partial(decoder, activation), encoder, covariance=covariance)
    return lambda p, key, x: -jax.vmap(bound, (0, None))({"x": x}, p).value.mean()


def losses(activation: str) -> dict[str, Loss]:
    """The losses that are compared, by name."""
    by_samples = {f"{k} sample{'s' * (k > 1)}": sampled(activation, k) for k in SAMPLES}
    by_moments = {name: deterministic(activation, c) for name, c in COVARIANCES.items()}
    return by_samples | by_moments


def trained(loss: Loss, x: Any, steps: int) -> Any:
    """Parameters after so many steps of Adam."""
    optimiser = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        p, state = carry
        batch = x[jax.random.randint(key, (BATCH,), 0, len(x))]
        update, state = optimiser.update(jax.grad(loss)(p, key, batch), state)
        return (optax.apply_updates(p, update), state), None

    keys = jax.random.split(jax.random.key(1), steps)
    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])
    return run(start())


def prepare(loss: Loss, x: Any) -> Prepared:
    """Training steps on one batch."""

    def whole(p: Any, key: Any, state: Any, x: Any, _: Any) -> tuple[jax.Array, Any]:
        return loss(p, key, x), state

    return descent(whole, start(), (), x, (), rate=1e-3)


def measurement(activation: str, repeats: int) -> Callable[[Any, Any], dict[str, Any]]:
    """Biases of the deterministic bounds, and errors of all gradients, at parameters and images."""
    found = losses(activation)
    keys = jax.random.split(jax.random.key(2), repeats)
    ten = sampled(activation, 10)
    values = jax.jit(lambda p, x: jax.lax.map(lambda key: ten(p, key, x), keys))
    biases = {n: jax.jit(lambda p, x, n=n: found[n](p, None, x)) for n in COVARIANCES}

    def gradient(loss: Loss) -> Any:
        return jax.jit(lambda p, key, x: ravel_pytree(jax.grad(loss)(p, key, x))[0])

    gradients = {name: gradient(loss) for name, loss in found.items()}

    def figures(p: Any, x: Any) -> dict[str, Any]:
        few, elbo = x[:BATCH], -float(values(p, x).mean())
        drawn = {
            k: jnp.stack([gradients[name](p, key, few) for key in keys])
            for k, name in zip(SAMPLES, found, strict=False)
        }
        exact = drawn[SAMPLES[-1]].mean(0)
        length = jnp.linalg.norm(exact)
        noise = {k: jnp.sqrt(each.var(0, ddof=1).sum()) / length for k, each in drawn.items()}
        apart = {n: jnp.linalg.norm(gradients[n](p, keys[0], few) - exact) for n in COVARIANCES}
        return {
            "elbo": elbo,
            "bias": {n: -float(bias(p, x)) - elbo for n, bias in biases.items()},
            "noise": {str(k): float(each) for k, each in noise.items()},
            "gradient": {n: float(distance / length) for n, distance in apart.items()},
        }

    return figures


def measure(quick: bool) -> dict[str, Any]:
    """Figures of every decoder before and after trainings, and times of steps."""
    data = images.load("digits")
    train, test = (
        jnp.asarray(x, jnp.float32).reshape(-1, PIXELS) > 0.5
        for x in (data.train_x, data.validation_x)
    )
    x, unseen = train.astype(jnp.float32), test.astype(jnp.float32)
    steps, repeats = (20, 4) if quick else (1500, 40)
    rounds, calls = (2, 1) if quick else (11, 5)
    rows, times = [], []
    for activation in DECODERS:
        found, figures = losses(activation), measurement(activation, repeats)
        for name in ("nothing", "1 sample", *COVARIANCES):
            p = start() if name == "nothing" else trained(found[name], x, steps)
            row = {"decoder": activation, "trained": name}
            rows.append(row | figures(p, unseen))

        prepared = {name: prepare(loss, x[:BATCH]) for name, loss in found.items()}
        for name, row in compared(prepared, "1 sample", rounds=rounds, calls=calls).items():
            times.append({"decoder": activation, "loss": name} | row)
    return {"bounds": rows, "steps": times}


TABLES = [
    Table(
        "bounds",
        "decoder {decoder} | trained on {trained} | ELBO {elbo:.2f} | "
        "moments: bias {bias[moments]:+.2f} | independent {bias[moments, independent]:+.2f} | "
        "gradient: 1 sample {noise[1]:.2f} | 10 samples {noise[10]:.2f} | "
        "100 {noise[100]:.3f} | moments {gradient[moments]:.3f} | "
        "independent {gradient[moments, independent]:.3f}",
        title="Bounds in nats, and errors of gradients relative to their lengths:",
        names="decoder trained",
    ),
    Table(
        "steps",
        "decoder {decoder} | training step {loss} | ms {milliseconds:.2f} | "
        "ratio (quartiles) {ratio~2} | of the fastest {ratio_of_fastest:.2f}",
        title="Training steps of 100 images:",
        names="decoder loss",
    ),
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)
