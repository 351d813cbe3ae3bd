"""The linear recurrent unit: a recurrence of complex numbers, then a gated linear unit."""

from tests.zoo.example import Example, Parts


def _make() -> Parts:
    import jax
    import jax.numpy as jnp

    width, states, length = 4, 6, 5

    def init(key):
        keys = jax.random.split(key, 9)

        def normal(k, *shape):
            return jax.random.normal(keys[k], shape) / shape[0] ** 0.5

        return {
            "log_rate": jnp.log(jax.random.uniform(keys[0], (states,), minval=0.1, maxval=0.7)),
            "log_angle": jnp.log(jax.random.uniform(keys[1], (states,), minval=0.1, maxval=3.0)),
            "b_real": normal(2, width, states),
            "b_imag": normal(3, width, states),
            "c_real": normal(4, states, width),
            "c_imag": normal(5, states, width),
            "d": normal(6, width),
            "value": normal(7, width, width),
            "gate": normal(8, width, width),
        }

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
        for layer in params:
            x = block(layer, x)
        return x

    x = jax.random.normal(jax.random.key(1), (2, length, width))
    return Parts(f, [init(key) for key in jax.random.split(jax.random.key(0))], (x,))


# Of each block a GELU and a logistic.
EXAMPLE = Example("LRU", "jax", "sequence", _make, activations=4, optional=2)
