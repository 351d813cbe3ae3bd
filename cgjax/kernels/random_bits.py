"""Random words that the compiler can fuse into what uses them, and the numbers made from them.

`jax.random.bits` calls a rolled loop on CPU, which XLA cannot fuse with its consumer: the bits are
written to memory and read back. Here the same generator, threefry-2x32 (Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", SC 2011), is written out round by round, so that a node's words
are made in registers beside its activation. One block of it gives two words: word 0 decides whether
a node is uncollapsed, word 1 is its sample.
"""

import math
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float, Key, UInt32

from cgjax._static import Leaf

# Typed keys, or the raw data of legacy ones.
Keys = Key[Array, "..."] | UInt32[Array, "..."]

# Below, `jax.jit(..., inline=True)` caches what is traced and leaves no call behind: a network of
# many nodes is traced several times faster, and the compiler sees the same program.

# Threefry-2x32's rotation distances, repeated every eight rounds, and the constant that keeps
# the key schedule from being all zero (both from the paper cited above).
_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
_KEY_PARITY = 0x1BD11BDA

# Thirteen rounds are the fewest that the authors of threefry publish as passing every test of
# TestU01's BigCrush; twenty are their default, and JAX's.
_FEWEST_ROUNDS = 13


def random_words(
    key: Keys, shape: tuple[int, ...], *, rounds: int = 20
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Two independent uniform 32-bit words for every element of an array.

    For threefry keys, JAX's default, element number i (counted in row-major order over the whole
    array, wherever its parts live) gets the threefry-2x32 block of counter i, and at 20 rounds
    `word0 ^ word1` is `jax.random.bits(key, shape, "uint32")`. For other key implementations
    the words are `jax.random.bits(key, (2, *shape), "uint32")` and `rounds` has no effect.

    Args:
        key: one typed key (`jax.random.key`), or the raw array of a legacy one (`PRNGKey`).
        shape: shape of each of the two results.
        rounds: of threefry, at least 13. Fewer than 20 are faster and no longer equal
            `jax.random.bits`.

    Returns:
        `(word0, word1)`, each of dtype uint32 and shape `shape`.

    Raises:
        TypeError: `key` is not a key.
        ValueError: `key` is an array of several keys, or `rounds` is below 13.

    Example:
        >>> import jax
        >>> key = jax.random.key(0)
        >>> word0, word1 = random_words(key, (2, 3))
        >>> bool((word0 ^ word1 == jax.random.bits(key, (2, 3))).all())
        True
    """
    if rounds < _FEWEST_ROUNDS:
        raise ValueError(f"rounds is {rounds}; threefry-2x32 needs at least {_FEWEST_ROUNDS}")
    return draw_words(typed_key(key), tuple(shape), rounds)


def grouped_words(
    keys: Keys, shape: tuple[int, ...], *, rounds: int = 20
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """The words of many nodes of one shape, made by one generator.

    Compile time grows with the number of generators in a program, and a mapped one does not help:
    the compiler fuses a copy into the kernel of each node. Here the generator is the body of a
    loop over the keys, compiled once, and its words go through memory. That is for many small
    nodes; a large one is faster with its own `random_words`.

    Args:
        keys: typed keys of shape (n,), or raw keys of shape (n, words per key).
        shape: shape of one node.
        rounds: as in `random_words`.

    Returns:
        `(word0, word1)`, each of dtype uint32 and shape (n, *shape).

    Example:
        >>> import jax
        >>> keys = jax.random.split(jax.random.key(0), 3)
        >>> word0, word1 = grouped_words(keys, (2,))
        >>> bool((word1[2] == random_words(keys[2], (2,))[1]).all())
        True
    """
    typed = jax.random.wrap_key_data(keys) if keys.dtype == jnp.uint32 else keys
    return lax.map(partial(random_words, shape=tuple(shape), rounds=rounds), typed)


def uniform(words: UInt32[Array, "..."], dtype=jnp.float32) -> Float[Array, "..."]:
    """Uniform numbers in [0, 1): the leading bits of each word, as a multiple of a power of two.

    As many bits are kept as the dtype's significand holds (24 for float32, 8 for bfloat16, all
    32 for float64), so every value is exact and none rounds up to 1.

    Args:
        words: uniform 32-bit words, any shape.
        dtype: a floating-point dtype.

    Returns:
        Numbers of `dtype`, shape of `words`.

    Example:
        >>> import jax.numpy as jnp
        >>> uniform(jnp.array([0, 0x80000000], jnp.uint32)).tolist()
        [0.0, 0.5]
    """
    bits = min(32, jnp.finfo(dtype).nmant + 1)
    leading = lax.shift_right_logical(words, jnp.uint32(32 - bits))
    if bits < 32:
        # Below 2^31 both integer types agree, and CPUs convert the signed one in one instruction.
        leading = lax.convert_element_type(leading, jnp.int32)
    return lax.convert_element_type(leading, dtype) * jnp.asarray(2.0**-bits, dtype)


def open_uniform(words: UInt32[Array, "..."], dtype=jnp.float32) -> Float[Array, "..."]:
    """Uniform numbers in (0, 1): those of `uniform`, with half of the smallest in place of 0.

    So what has a probability of 0, or one too small for a number to be below it, never happens.

    Args:
        words: uniform 32-bit words, any shape.
        dtype: a floating-point dtype.

    Returns:
        Numbers of `dtype`, shape of `words`.

    Example:
        >>> import jax.numpy as jnp
        >>> open_uniform(jnp.array([0, 0x80000000], jnp.uint32)).tolist()
        [2.9802322387695312e-08, 0.5]
    """
    bits = min(32, jnp.finfo(dtype).nmant + 1)
    return jnp.maximum(uniform(words, dtype), jnp.asarray(2.0 ** -(bits + 1), dtype))


@partial(jax.jit, static_argnames="dtype", inline=True)
def standard_normal(words: UInt32[Array, "..."], dtype=jnp.float32) -> Float[Array, "..."]:
    """Standard normal numbers, one per word, by the inverse of the distribution function.

    Word w, read as a signed integer s, becomes the quantile of 1/2 + (s + 1/2) / 2^32: finite for
    every word (at most 6.34 in absolute value) and exactly antisymmetric, in that
    `standard_normal(~words) == -standard_normal(words)`.

    In float32 the error against the exact quantile z is at most 5e-7 max(1, |z|), at less than a
    third of the cost of `lax.erf_inv`: one formula serves all words, where `erf_inv` evaluates two
    and selects. In float64 it is `jax.scipy.special.ndtri`.

    Args:
        words: uniform 32-bit words, any shape.
        dtype: a floating-point dtype; below 32 bits the float32 value is rounded.

    Returns:
        Numbers of `dtype`, shape of `words`.

    Example:
        >>> import jax.numpy as jnp
        >>> [round(z, 3) for z in standard_normal(jnp.array([2**30, 0], jnp.uint32)).tolist()]
        [0.674, 0.0]
    """
    signed = lax.bitcast_convert_type(words, jnp.int32)
    sign = signed >> 31
    # Steps to the nearer end of the integers: the tail's probability is (steps + 1/2) / 2^32.
    steps = signed ^ sign ^ np.int32(0x7FFFFFFF)
    if jnp.finfo(dtype).bits == 64:
        tail = (lax.convert_element_type(steps, dtype) + 0.5) * 2.0**-32
        magnitude = -ndtri(tail)
        return lax.select(signed < 0, -magnitude, magnitude)
    magnitude = _upper_quantile(lax.convert_element_type(steps, jnp.float32) + 0.5)
    # The sign goes in as a bit: a select here makes a fused sampling kernel 1.3 times slower.
    bits = lax.bitcast_convert_type(magnitude, jnp.int32) | (signed & np.int32(-(2**31)))
    return lax.convert_element_type(lax.bitcast_convert_type(bits, jnp.float32), dtype)


# With v = -log2(2 p), the upper p-quantile of the standard normal is close to v P(v) / Q(v) for
# all 0 <= v <= 32, that is 2^-33 <= p <= 1/2 (relative error 5e-8), and log2(1 + r) is close to
# r L(r) for 1/sqrt(2) <= 1 + r <= sqrt(2) (error 5e-8). Coefficients by increasing power, from
# least squares reweighted towards the least largest error, against scipy.special.ndtri.
_NUMERATOR = (0.86872876, 0.9910911, 0.30055362, 0.026141223, 0.0005286158, 1.095559e-06)
_DENOMINATOR = (1.0, 1.4873844, 0.6557822, 0.09535723, 0.003962258, 3.063695e-05)
_LOG2 = (
    1.4426948,
    -0.72135717,
    0.48093945,
    -0.36008722,
    0.28670743,
    -0.25006908,
    0.2368905,
    -0.14574452,
)


def _upper_quantile(scaled: Float[Array, "..."]) -> Float[Array, "..."]:
    """The standard normal's upper quantile at tail probability scaled / 2^32, in float32."""
    # scaled = 2^exponent (1 + r), split so that 1 + r is from 1/sqrt(2) (0x3F3504F3) to sqrt(2).
    bits = lax.bitcast_convert_type(scaled, jnp.int32)
    offset = bits - np.int32(0x3F3504F3)
    mantissa = bits - (offset & np.int32(-(2**23)))
    r = lax.bitcast_convert_type(mantissa, jnp.float32) - 1
    exponent = lax.convert_element_type(np.int32(31) - (offset >> 23), jnp.float32)
    v = exponent - r * _polynomial(_LOG2, r)
    return v * _polynomial(_NUMERATOR, v) / _polynomial(_DENOMINATOR, v)


def _polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Sum of coefficients[k] x^k, added pairwise: fewer dependent steps than Horner's rule."""
    terms: list[Leaf] = list(coefficients)
    while len(terms) > 1:
        unpaired = terms[len(terms) // 2 * 2 :]
        pairs = zip(terms[::2], terms[1::2], strict=False)
        terms = [low + high * x for low, high in pairs] + unpaired
        x = x * x
    return terms[0]


def draw_words(
    key: Key[Array, ""], shape: tuple[int, ...], rounds: int
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Both words of counters 0 to prod(shape) - 1 under a typed key.

    Every random bit in cgjax is drawn by this function, so a test that replaces it sees all
    (key, counters) that a procedure consumes; but for recurrences, whose one key `row_words`
    serves, step by step.
    """
    if str(jax.random.key_impl(key)) != "threefry2x32":
        words = jax.random.bits(key, (2, *shape), "uint32")
        return words[0], words[1]
    key_words = jax.random.key_data(key)
    return threefry_2x32(key_words[0], key_words[1], *_counters(shape), rounds=rounds)


def row_words(
    key_words: Sequence[ArrayLike] | Array,
    row: ArrayLike,
    shape: tuple[int, ...],
    lane: Array | None = None,
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """One row of `random_words(key, (rows, *shape))`, drawn alone.

    A loop over rows makes each row's words in registers, and no array holds them all.

    Args:
        key_words: `jax.random.key_data(key)` of a threefry key, two words along the first axis.
        row: the number of the row, at least 0 and below 2^32; may be traced.
        shape: of one row.
        lane: for a part of a row, the number of each of its elements in the row; then the result
            has its shape.

    Returns:
        `(word0, word1)`, each of dtype uint32 and shape `shape`.

    Example:
        >>> import jax
        >>> key = jax.random.key(0)
        >>> word0, word1 = row_words(jax.random.key_data(key), 2, (5,))
        >>> bool((word0 == random_words(key, (3, 5))[0][2]).all())
        True
    """
    size = math.prod(shape)
    if size > 2**32:
        raise ValueError(f"a row of shape {shape} has more than 2^32 elements")
    row = jnp.asarray(row).astype(jnp.uint32)
    stride = np.uint32(size & 0xFFFFFFFF)
    start = row * stride
    low = start + (_counters(shape)[1] if lane is None else lane)
    # The upper half of row * size + lane: the product's, and what the sum carries.
    high = _high_product(row, size) if size < 2**32 else row
    high = high + (low < start).astype(jnp.uint32)
    return threefry_2x32(key_words[0], key_words[1], high, low)


@partial(jax.jit, static_argnames="rounds", inline=True)
def threefry_2x32(key0, key1, counter0, counter1, *, rounds: int = 20):
    """The threefry-2x32 block cipher, unrolled: four uint32 arrays to two, by broadcasting.

    Example:
        >>> import jax.numpy as jnp
        >>> zero = jnp.uint32(0)
        >>> [hex(int(word)) for word in threefry_2x32(zero, zero, zero, zero)]
        ['0x6b200159', '0x99ba4efe']
    """
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(_KEY_PARITY))
    word0, word1 = counter0 + schedule[0], counter1 + schedule[1]
    for turn in range(rounds):
        distance = _ROTATIONS[turn % 8]
        word0 = word0 + word1
        word1 = word0 ^ ((word1 << np.uint32(distance)) | (word1 >> np.uint32(32 - distance)))
        injection, rest = divmod(turn + 1, 4)
        if rest == 0:
            word0 = word0 + schedule[injection % 3]
            word1 = word1 + (schedule[(injection + 1) % 3] + np.uint32(injection))
    return word0, word1


def typed_key(key: Keys) -> Key[Array, ""]:
    """A scalar typed key, from one or from raw key data of the default implementation."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (dtype == jnp.uint32 or jnp.issubdtype(dtype, jax.dtypes.prng_key)):
        raise TypeError(f"expected a key made by jax.random.key, got {type(key).__name__}: {key!r}")
    typed = jax.random.wrap_key_data(key) if dtype == jnp.uint32 else key
    if typed.ndim:
        raise ValueError(f"expected one key, got an array of keys of shape {typed.shape}")
    return typed


def _counters(shape: tuple[int, ...]) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """High and low halves of every element's row-major number.

    Written as a sum over dimensions, not as a reshaped iota, so that each device of a sharded
    program makes the numbers of its own part.
    """
    if math.prod(shape) > 2**64:
        raise ValueError(f"shape {shape} has more than 2^64 elements")
    high, low = jnp.uint32(0), jnp.uint32(0)
    stride = 1
    for axis in reversed(range(len(shape))):
        if shape[axis] > 1:
            index = lax.broadcasted_iota(jnp.uint32, shape, axis)
            product = index * np.uint32(stride & 0xFFFFFFFF)
            if stride * shape[axis] > 2**32:
                carried = _high_product(index, stride & 0xFFFFFFFF)
                high = high + index * np.uint32(stride >> 32) + carried
                high = high + (low + product < product).astype(jnp.uint32)
            low = low + product
        stride *= shape[axis]
    return high, jnp.broadcast_to(low, shape)


def _high_product(index: UInt32[Array, "..."], factor: int) -> UInt32[Array, "..."]:
    """The upper 32 bits of a 32 by 32 bit product, in 32-bit arithmetic."""
    low, high = index & np.uint32(0xFFFF), index >> np.uint32(16)
    factor_low, factor_high = np.uint32(factor & 0xFFFF), np.uint32(factor >> 16)
    middle = high * factor_low + ((low * factor_low) >> np.uint32(16))
    other = low * factor_high + (middle & np.uint32(0xFFFF))
    return high * factor_high + (middle >> np.uint32(16)) + (other >> np.uint32(16))
