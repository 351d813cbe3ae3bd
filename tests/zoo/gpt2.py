"""A decoder-only transformer in the style of GPT-2: learnt positions, layer norm, GELU, and logits
by the embeddings of the tokens."""

from tests.zoo.build import linen_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax.numpy as jnp
    from flax import linen as nn

    width, vocabulary, length = 8, 11, 4

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x, mask):
            h = nn.LayerNorm()(x)
            x = x + nn.MultiHeadDotProductAttention(num_heads=2)(h, mask=mask)
            h = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
            return x + nn.Dense(width)(h)

    class GPT2(nn.Module):
        @nn.compact
        def __call__(self, x):
            tokens = nn.Embed(vocabulary, width)
            x = x + nn.Embed(length, width)(jnp.arange(length))[None]
            mask = nn.make_causal_mask(x[..., 0])
            x = Block()(x, mask)
            return tokens.attend(nn.LayerNorm()(x))

    return linen_parts(GPT2(), normal(2, length, width))  # the embeddings of tokens


# A GELU and a softmax.
EXAMPLES = (Example("GPT-2", "linen", "sequence", _make, activations=2, optional=1),)
