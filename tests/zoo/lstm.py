"""A tagger: an LSTM, then a softmax at each step."""

from tests.zoo.build import linen_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    from flax import linen as nn

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, x):
            h = nn.RNN(nn.OptimizedLSTMCell(4))(x)
            return nn.softmax(nn.Dense(3)(nn.tanh(nn.Dense(6)(h))))

    return linen_parts(Tagger(), normal(2, 4, 3))


# Three logistics and two tanh of the cell; and a tanh and the softmax of the result.
EXAMPLES = (
    Example(
        "LSTM",
        "linen",
        "sequence",
        _make,
        activations=7,
        optional=5,
        errors={
            "log_joint": "one number for the 2 rows",
            "local_reparameterization": "anew wherever it is used",
        },
    ),
)
