"""A decoder-only transformer as they are made today: rotary embeddings, RMS norm, SwiGLU, capped
logits; with a soft prompt in front of its tokens."""

from tests.zoo.build import nnx_parts
from tests.zoo.example import Example, Parts
from tests.zoo.inputs import normal


def _make() -> Parts:
    import jax
    import jax.numpy as jnp
    from flax import nnx

    width, heads, vocabulary = 8, 2, 11
    size = width // heads

    def capped(x, limit):
        return limit * jnp.tanh(x / limit)

    def rotated(x):
        """Turns pairs of features by angles that grow with the position."""
        frequencies = 100.0 ** -(jnp.arange(size // 2) / (size // 2))
        angles = jnp.arange(x.shape[1])[:, None] * frequencies[None, :]
        cos, sin = jnp.cos(angles)[None, :, None, :], jnp.sin(angles)[None, :, None, :]
        a, b = jnp.split(x, 2, -1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)

    class Attention(nnx.Module):
        def __init__(self, rngs):
            self.qkv = nnx.LinearGeneral(width, (3, heads, size), use_bias=False, rngs=rngs)
            self.out = nnx.LinearGeneral((heads, size), width, axis=(-2, -1), rngs=rngs)

        def __call__(self, x):
            q, k, v = jnp.moveaxis(self.qkv(x), 2, 0)
            scores = jnp.einsum("bqhd,bkhd->bhqk", rotated(q), rotated(k)) / size**0.5
            causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))[None, None]
            scores = jnp.where(causal, capped(scores, 50.0), -jnp.inf)
            return self.out(jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v))

    class Block(nnx.Module):
        def __init__(self, rngs):
            self.before_attention = nnx.RMSNorm(width, rngs=rngs)
            self.attention = Attention(rngs)
            self.before_mlp = nnx.RMSNorm(width, rngs=rngs)
            self.gate = nnx.Linear(width, 2 * width, use_bias=False, rngs=rngs)
            self.up = nnx.Linear(width, 2 * width, use_bias=False, rngs=rngs)
            self.down = nnx.Linear(2 * width, width, use_bias=False, rngs=rngs)

        def __call__(self, x):
            x = x + self.attention(self.before_attention(x))
            h = self.before_mlp(x)
            return x + self.down(nnx.silu(self.gate(h)) * self.up(h))

    class GPT(nnx.Module):
        def __init__(self, rngs):
            self.embedding = nnx.Embed(vocabulary, width, rngs=rngs)
            self.block = Block(rngs)
            self.norm = nnx.RMSNorm(width, rngs=rngs)
            self.head = nnx.Linear(width, vocabulary, use_bias=False, rngs=rngs)

        def __call__(self, prompt, tokens):
            x = jnp.concatenate([prompt, self.embedding(tokens)], 1)
            return capped(self.head(self.norm(self.block(x))), 30.0)

    return nnx_parts(GPT, normal(2, 2, width), jnp.array([[3, 1, 4], [1, 5, 9]]))


# A silu, a softmax and the bound of its scores; and the bound of the logits.
# The scores that are returned are capped, its only node; all others are nodes on request.
EXAMPLES = (
    Example(
        "GPT",
        "nnx",
        "sequence",
        _make,
        activations=4,
        optional=3,
        errors={"pcff": "samples nothing here"},
    ),
)
