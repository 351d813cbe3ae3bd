"""A transformer with a mixture of experts: a token goes to the two that its router prefers."""

from tests.zoo.build import linen_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax
    import jax.numpy as jnp
    from flax import linen as nn

    width, hidden, experts, chosen = 4, 8, 4, 2

    class Experts(nn.Module):
        @nn.compact
        def __call__(self, x):
            probabilities = nn.softmax(nn.Dense(experts, use_bias=False, name="router")(x))
            top, which = jax.lax.top_k(probabilities, chosen)
            top = top / top.sum(-1, keepdims=True)
            combine = (jax.nn.one_hot(which, experts) * top[..., None]).sum(-2)
            init = nn.initializers.lecun_normal(batch_axis=(0,))
            up = self.param("up", init, (experts, width, hidden))
            down = self.param("down", init, (experts, hidden, width))
            h = nn.relu(jnp.einsum("btd,edh->bteh", x, up))
            return jnp.einsum("bteh,ehd,bte->btd", h, down, combine)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x + Experts()(nn.LayerNorm()(x))
            x = x + nn.Dense(width)(nn.gelu(nn.Dense(hidden)(nn.LayerNorm()(x))))
            return nn.Dense(3)(nn.LayerNorm()(x).mean(1))

    return linen_parts(Network(), normal(2, 4, width))


# The router's softmax, the experts' relu, and a GELU.
EXAMPLES = (
    Example(
        "Experts",
        "linen",
        "sequence",
        _make,
        activations=3,
        optional=1,
        errors={
            "moments": "`top_k`",
        },
    ),
)
