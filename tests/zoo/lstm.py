"""A tagger: an LSTM in both directions, then a softmax at each step."""

from tests.zoo.example import Example, Parts


def _make() -> Parts:
    import jax
    from flax import linen as nn

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            forward, backward = (nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2))
            h = nn.Bidirectional(forward, backward)(x)
            return nn.softmax(nn.Dense(3)(nn.tanh(nn.Dense(6)(h))))

    model = Tagger()
    x = jax.random.normal(jax.random.key(1), (2, 4, 3))
    return Parts(model.apply, model.init(jax.random.key(0), x), (x,))


# Of each direction three logistics and two tanh; and a tanh and the softmax of the result.
EXAMPLE = Example("LSTM", "linen", "sequence", _make, activations=12, optional=10)
