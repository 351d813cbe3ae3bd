"""A classifier of sequences by their last state: a gated recurrent unit."""

from tests.zoo.build import equinox_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    class Classifier(eqx.Module):
        cell: eqx.nn.GRUCell
        hidden: eqx.nn.Linear
        head: eqx.nn.Linear

        def __init__(self, key):
            keys = jax.random.split(key, 3)
            self.cell = eqx.nn.GRUCell(3, 4, key=keys[0])
            self.hidden = eqx.nn.Linear(4, 8, key=keys[1])
            self.head = eqx.nn.Linear(8, 3, key=keys[2])

        def __call__(self, x):
            def step(h, x):
                return self.cell(x, h), None

            h, _ = jax.lax.scan(step, jnp.zeros(self.cell.hidden_size), x)
            return self.head(jax.nn.relu(self.hidden(h)))

    return equinox_parts(Classifier, normal(2, 5, 3))


# Two logistics and a tanh of the cell, and a relu.
EXAMPLES = (
    Example(
        "GRU",
        "equinox",
        "sequence",
        _make,
        activations=4,
        optional=3,
        errors={
            "local_reparameterization": "anew wherever it is used",
        },
    ),
)
