"""From one sequence to another: two recurrent networks, of which the second attends to the first by
scores of a small network."""

from tests.zoo.build import haiku_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import haiku as hk
    import jax
    import jax.numpy as jnp

    width, classes = 4, 3

    class Attention(hk.Module):
        def __call__(self, states, h):
            keys = hk.Linear(width, with_bias=False)(states)
            scores = jnp.tanh(keys + hk.Linear(width)(h)[:, None, :])
            scores = hk.Linear(1, with_bias=False)(scores)[..., 0]
            return jnp.einsum("bt,btd->bd", jax.nn.softmax(scores), states)

    class Decoder(hk.RNNCore):
        def __init__(self, states):
            super().__init__()
            self.states, self.cell, self.attention = states, hk.GRU(width), Attention()
            self.hidden, self.head = hk.Linear(width), hk.Linear(classes)

        def initial_state(self, batch_size):
            return self.states[:, -1]

        def __call__(self, inputs, state):
            context = self.attention(self.states, state)
            h, state = self.cell(jnp.concatenate([inputs, context], -1), state)
            h = jnp.tanh(self.hidden(jnp.concatenate([h, context], -1)))
            return self.head(h), state

    def network(x, before, is_training):
        cell = hk.GRU(width)
        states, _ = hk.dynamic_unroll(cell, x, cell.initial_state(len(x)), time_major=False)
        decoder = Decoder(states)
        given = jax.nn.one_hot(before, classes)  # what was written so far
        out, _ = hk.dynamic_unroll(decoder, given, decoder.initial_state(0), time_major=False)
        return out

    return haiku_parts(network, normal(2, 4, 3), jnp.array([[0, 1, 2], [0, 2, 1]]))


# A logistic of both gates and a tanh of each cell, the tanh of the scores, their softmax, a tanh.
EXAMPLES = (
    Example(
        "Seq2seq",
        "haiku",
        "sequence",
        _make,
        activations=7,
        optional=5,
        errors={
            "local_reparameterization": "anew wherever it is used",
        },
    ),
)
