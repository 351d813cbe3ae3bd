"""A tagger: an LSTM in both directions, then a softmax at each step."""

from tests.zoo.build import linen_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    from flax import linen as nn

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            forward, backward = (nn.RNN(nn.OptimizedLSTMCell(4)) for _ in range(2))
            h = nn.Bidirectional(forward, backward)(x)
            return nn.softmax(nn.Dense(3)(nn.tanh(nn.Dense(6)(h))))

    return linen_parts(Tagger(), normal(2, 4, 3))


# Of each direction three logistics and two tanh; and a tanh and the softmax of the result.
EXAMPLES = (Example("LSTM", "linen", "sequence", _make, activations=12, optional=10),)
