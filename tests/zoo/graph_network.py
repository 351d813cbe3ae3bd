"""A graph network: messages along edges, of which nodes take the sum and the largest."""

from tests.zoo.build import filled
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax
    import jax.numpy as jnp

    features, width = 3, 4
    senders = jnp.array([0, 1, 1, 2, 3, 4, 4, 2])
    receivers = jnp.array([1, 2, 2, 1, 4, 3, 1, 4])  # none for node 0
    graphs = jnp.array([0, 0, 0, 1, 1])

    def linear(inputs, outputs):
        return {"w": jnp.empty((inputs, outputs)), "b": jnp.empty(outputs)}

    def init():
        layers = {"message": linear(2 * width, width), "update": linear(3 * width, width)}
        return {
            "embed": linear(features, width),
            "rounds": [layers, layers],
            "readout": linear(width, 2),
        }

    def apply(layer, x):
        return x @ layer["w"] + layer["b"][None, :]

    def f(params, x):
        x = apply(params["embed"], x)
        for layers in params["rounds"]:
            edges = jnp.concatenate([x[senders], x[receivers]], -1)
            messages = jax.nn.relu(apply(layers["message"], edges))
            total = jax.ops.segment_sum(messages, receivers, len(x))
            largest = jax.ops.segment_max(messages, receivers, len(x))
            largest = jnp.where(jnp.isinf(largest), 0.0, largest)  # no message came
            new = apply(layers["update"], jnp.concatenate([x, total, largest], -1))
            x = x + jnp.tanh(new)
        sizes = jax.ops.segment_sum(jnp.ones(len(x)), graphs, 2)
        return apply(params["readout"], jax.ops.segment_sum(x, graphs, 2) / sizes[:, None])

    return Parts(f, filled(jax.eval_shape(init)), (normal(5, features),))


# Of each round a relu and a tanh.
EXAMPLES = (Example("Graph network", "jax", "graph", _make, activations=4),)
