"""The linear recurrent unit: a recurrence of complex numbers, then a gated linear unit."""

from tests.zoo.build import filled
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax
    import jax.numpy as jnp

    width, states, length = 4, 6, 5

    def init():
        shapes = {
            "log_rate": (states,),
            "log_angle": (states,),
            "b_real": (width, states),
            "b_imag": (width, states),
            "c_real": (states, width),
            "c_imag": (states, width),
            "d": (width,),
            "value": (width, width),
            "gate": (width, width),
        }
        layer = {name: jnp.empty(shape) for name, shape in shapes.items()}
        return {"first": layer, "second": layer}

    def block(params, x):
        p = params
        rate = jnp.exp(p["log_rate"])
        eigenvalues = jnp.exp(-rate + 1j * jnp.exp(p["log_angle"]))
        scale = jnp.sqrt(1 - jnp.exp(-2 * rate))
        driven = x @ ((p["b_real"] + 1j * p["b_imag"]) * scale[None, :])
        decay = jnp.broadcast_to(eigenvalues[None, None, :], driven.shape)

        def joined(first, second):
            return first[0] * second[0], second[0] * first[1] + second[1]

        _, h = jax.lax.associative_scan(joined, (decay, driven), axis=1)
        y = (h @ (p["c_real"] + 1j * p["c_imag"])).real + x * p["d"][None, None, :]
        y = jax.nn.gelu(y)
        return x + (y @ p["value"]) * jax.nn.sigmoid(y @ p["gate"])

    def f(params, x):
        return block(params["second"], block(params["first"], x))

    return Parts(f, filled(jax.eval_shape(init)), (normal(2, length, width),))


# Of each block a GELU and a logistic.
EXAMPLES = (
    Example(
        "LRU",
        "jax",
        "sequence",
        _make,
        activations=4,
        optional=2,
        errors={
            "local_reparameterization": "['log_rate'] once for all examples",
            "flipout": "['log_rate'] once for all examples",
        },
    ),
)
