"""The words are threefry's and JAX's; the numbers made from them have the right distribution."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cgjax.kernels import (
    grouped_words,
    random_bits,
    random_words,
    standard_normal,
    uniform,
)

SHAPES = [(), (0,), (1,), (7,), (3, 5), (2, 0, 3), (1, 3, 1, 2), (33, 65), (128, 1024)]
ROUNDS = [13, 20]


def words_of(values):
    return jnp.asarray(np.asarray(values, np.uint64).astype(np.uint32))


# -- the words


# Published with Random123 (Salmon et al. 2011) in `kat_vectors`: zeros, ones, digits of pi.
@pytest.mark.parametrize(
    ("rounds", "counter", "key", "expected"),
    [
        (13, "00000000 00000000", "00000000 00000000", "9d1c5ec6 8bd50731"),
        (13, "ffffffff ffffffff", "ffffffff ffffffff", "fd36d048 2d17272c"),
        (13, "243f6a88 85a308d3", "13198a2e 03707344", "ba3e4725 f27d669e"),
        (20, "00000000 00000000", "00000000 00000000", "6b200159 99ba4efe"),
        (20, "ffffffff ffffffff", "ffffffff ffffffff", "1cb996fc bb002be7"),
        (20, "243f6a88 85a308d3", "13198a2e 03707344", "c4923a9c 483df7a0"),
    ],
)
def test_known_answers(rounds, counter, key, expected):
    arguments = [jnp.uint32(int(word, 16)) for word in f"{key} {counter}".split()]
    words = random_bits.threefry_2x32(*arguments, rounds=rounds)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


@pytest.mark.parametrize("shape", SHAPES)
def test_xor_of_the_words_is_jax_random_bits(shape):
    key = jax.random.key(3)
    word0, word1 = random_words(key, shape)
    assert word0.shape == word1.shape == shape
    assert word0.dtype == word1.dtype == jnp.uint32
    np.testing.assert_array_equal(word0 ^ word1, jax.random.bits(key, shape, "uint32"))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_words_are_the_same_in_every_context(rounds):
    keys = jax.random.split(jax.random.key(5), 6)
    shape = (5, 7)
    expected = [np.stack(random_words(key, shape, rounds=rounds)) for key in keys]

    def draw(key):
        return jnp.stack(random_words(key, shape, rounds=rounds))

    _, scanned = jax.lax.scan(lambda carry, key: (carry, draw(key)), None, keys)
    for words in (
        [jax.jit(draw)(key) for key in keys],
        jax.vmap(draw)(keys),
        jax.vmap(jax.vmap(draw))(keys.reshape(2, 3)).reshape(6, 2, *shape),
        jax.checkpoint(jax.vmap(draw))(keys),
        scanned,
    ):
        np.testing.assert_array_equal(np.asarray(words), np.asarray(expected))


@pytest.mark.parametrize("rounds", ROUNDS)
def test_sharding_does_not_change_the_words(rounds):
    devices = jax.devices()
    assert len(devices) == 4
    key, shape = jax.random.key(8), (8, 12)
    expected = random_words(key, shape, rounds=rounds)
    for mesh_shape, axes in [((4,), ("rows",)), ((2, 2), ("rows", "columns"))]:
        mesh = Mesh(np.array(devices).reshape(mesh_shape), axes)
        sharding = NamedSharding(mesh, PartitionSpec(*axes))

        def draw(key):
            return random_words(key, shape, rounds=rounds)

        compiled = jax.jit(draw, out_shardings=sharding).lower(key).compile()
        # Each device makes its own part: nothing is sent.
        text = compiled.as_text() or ""
        assert "fusion" in text and "all-gather" not in text and "all-reduce" not in text
        words = compiled(key)
        assert len({shard.device for shard in words[0].addressable_shards}) == 4
        for got, wanted in zip(words, expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
@pytest.mark.parametrize("implementation", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_grouped_words_are_those_of_each_key(implementation, shape, rounds):
    key = jax.random.key(1, impl=implementation)
    keys = jax.random.split(key, 5)
    grouped = jax.jit(lambda keys: grouped_words(keys, shape, rounds=rounds))(keys)
    for number in range(5):
        single = random_words(keys[number], shape, rounds=rounds)
        for word in (0, 1):
            np.testing.assert_array_equal(grouped[word][number], single[word])


def test_raw_keys_are_keys_of_the_default_implementation():
    raw, typed = jax.random.PRNGKey(4), jax.random.key(4)
    np.testing.assert_array_equal(random_words(raw, (3,)), random_words(typed, (3,)))
    raws = jnp.stack([raw, raw + 1])
    np.testing.assert_array_equal(grouped_words(raws, (3,))[1][0], random_words(typed, (3,))[1])


@pytest.mark.parametrize("implementation", ["rbg", "unsafe_rbg"])
def test_other_key_implementations_use_jax_random_bits(implementation):
    key = jax.random.key(6, impl=implementation)
    bits = jax.random.bits(key, (2, 3, 4), "uint32")
    np.testing.assert_array_equal(np.stack(random_words(key, (3, 4))), bits)


@pytest.mark.parametrize("shape", [(3, 2**16, 2**15), (7, 65537, 65539), (2**17 + 1, 3, 2**16 + 5)])
def test_more_elements_than_32_bits_count(shape):
    # Only the slices are computed: the counters are part of the same fused loop.
    corners = [(0, 0), (1, shape[1] - 1), (shape[0] - 1, shape[1] // 2), (shape[0] - 1, -1)]
    key = jax.random.key(2)
    slices = (
        jax.jit(lambda key: [random_words(key, shape)[1][i, j, -5:] for i, j in corners])
        .lower(key)
        .compile()
    )
    memory = slices.memory_analysis()
    assert memory is not None and memory.temp_size_in_bytes < 2**20
    for (i, j), got in zip(corners, slices(key), strict=True):
        last = (i * shape[1] + j % shape[1] + 1) * shape[2]
        counters = np.arange(last - 5, last, dtype=np.uint64)
        np.testing.assert_array_equal(got, reference_word1(jax.random.key_data(key), counters))


def reference_word1(key, counters):
    """Threefry-2x32-20 of 64-bit counters in NumPy, straight from the paper's definition."""
    key = [int(word) for word in key]
    schedule = [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    rotations = [13, 15, 26, 6, 17, 29, 16, 24]
    results = []
    for counter in counters:
        x = [(int(counter) >> 32) + schedule[0], (int(counter) & 0xFFFFFFFF) + schedule[1]]
        x = [word % 2**32 for word in x]
        for turn in range(20):
            x[0] = (x[0] + x[1]) % 2**32
            distance = rotations[turn % 8]
            x[1] = ((x[1] << distance) | (x[1] >> (32 - distance))) % 2**32 ^ x[0]
            if turn % 4 == 3:
                group = turn // 4 + 1
                x[0] = (x[0] + schedule[group % 3]) % 2**32
                x[1] = (x[1] + schedule[(group + 1) % 3] + group) % 2**32
        results.append(x[1])
    return np.array(results, np.uint32)


def test_words_fuse_with_what_uses_them():
    def noisy(key, e):
        return e + standard_normal(random_words(key, e.shape)[1])

    text = jax.jit(noisy).lower(jax.random.key(0), jnp.zeros((64, 64))).compile().as_text() or ""
    assert text.count(" fusion(") == 1
    assert "while" not in text


def test_many_nodes_compile_one_generator():
    def network(keys, e):
        word0, word1 = grouped_words(keys, e.shape)
        for number in range(keys.shape[0]):
            e = jnp.tanh(e @ e) + uniform(word0[number]) * uniform(word1[number])
        return e

    keys = jax.random.split(jax.random.key(0), 12)
    text = jax.jit(network).lower(keys, jnp.zeros((8, 8))).compile().as_text() or ""
    # A generator shifts right at every round; both words of one group are two kernels at most.
    generators = [part for part in text.split("\n\n") if part.count(" shift-right-logical(") >= 20]
    assert 1 <= len(generators) <= 2


def test_all_words_are_drawn_by_one_function(monkeypatch):
    drawn = []
    original = random_bits.draw_words

    def recording(key, shape, rounds):
        jax.debug.callback(
            lambda data: drawn.append(tuple(map(int, data))), jax.random.key_data(key)
        )
        return original(key, shape, rounds)

    monkeypatch.setattr(random_bits, "draw_words", recording)
    keys = jax.random.split(jax.random.key(0), 4)
    expected = {tuple(map(int, jax.random.key_data(key))) for key in keys}
    jax.block_until_ready(grouped_words(keys, (2,)))
    jax.block_until_ready(jax.jit(lambda key: random_words(key, (3,)))(keys[0]))
    jax.effects_barrier()
    assert set(drawn) == expected
    assert len(drawn) == 5


def test_errors():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="at least 13"):
        random_words(key, (2,), rounds=12)
    with pytest.raises(ValueError, match=r"array of keys of shape \(2,\)"):
        random_words(jax.random.split(key), (2,))
    with pytest.raises(ValueError, match="more than 2.64 elements"):
        jax.eval_shape(lambda key: random_words(key, (2**33, 2**33)), key)


# -- statistics: fixed keys, and bounds of five standard errors (a chance of 6e-7 per number)

SAMPLES = 2**20


def drawn(seed, rounds, shape=(SAMPLES,)):
    return [np.asarray(word) for word in random_words(jax.random.key(seed), shape, rounds=rounds)]


@pytest.mark.parametrize("rounds", ROUNDS)
@pytest.mark.parametrize("shift", [0, 8, 16, 24])
def test_bytes_are_uniform(rounds, shift):
    for word in drawn(11, rounds):
        counts = np.bincount((word >> shift) & 0xFF, minlength=256)
        statistic = ((counts - SAMPLES / 256) ** 2 / (SAMPLES / 256)).sum()
        # Chi-squared with 255 degrees of freedom: mean 255, standard deviation sqrt(510).
        assert abs(statistic - 255) < 5 * math.sqrt(510)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_every_bit_is_fair_and_independent_of_every_other(rounds):
    word0, word1 = drawn(12, rounds)
    bits = np.concatenate(
        [np.unpackbits(word.view(np.uint8).reshape(-1, 4), axis=1) for word in (word0, word1)], 1
    )
    # Exact in float32: sums of whole numbers below 2^24.
    signs = bits.astype(np.float32)
    signs *= 2
    signs -= 1
    assert np.abs(signs.mean(0)).max() < 5 / math.sqrt(SAMPLES)
    correlation = signs.T @ signs / SAMPLES
    assert np.abs(correlation - np.eye(64)).max() < 5 / math.sqrt(SAMPLES)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_no_serial_correlation(rounds):
    for word in drawn(13, rounds):
        u = (word / 2**32 - 0.5) * math.sqrt(12)
        for lag in (1, 2, 3, 4, 8, 16, 1024):
            assert abs(np.mean(u[lag:] * u[:-lag])) < 5 / math.sqrt(SAMPLES - lag)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_no_correlation_across_keys_or_words(rounds):
    # Neighbouring raw keys, keys of one bit's difference, and keys as the library derives them.
    base = jax.random.key(14)
    raw = [(0, 0), (0, 1), (1, 0), (0, 2), (0, 2**31), (2**31, 0)]
    keys = [jax.random.wrap_key_data(jnp.array(pair, jnp.uint32)) for pair in raw]
    keys += [jax.random.fold_in(base, number) for number in range(6)]
    count = 2**17
    words = [word for key in keys for word in random_words(key, (count,), rounds=rounds)]
    u = (np.stack(words) / 2**32 - 0.5) * math.sqrt(12)
    correlation = u @ u.T / count
    off_diagonal = correlation[~np.eye(len(u), dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / math.sqrt(count)


@pytest.mark.parametrize("rounds", ROUNDS)
def test_uniform_and_normal_samples_have_their_distribution(rounds):
    # Rejected at p < 6e-7, as far out as five standard errors.
    for word in drawn(15, rounds):
        u = np.asarray(uniform(jnp.asarray(word)), np.float64)
        z = np.asarray(standard_normal(jnp.asarray(word)), np.float64)
        assert scipy.stats.kstest(u, "uniform").pvalue > 6e-7
        assert scipy.stats.kstest(z, "norm").pvalue > 6e-7
        # Moments 1 to 4 of a standard normal, with their analytic standard errors.
        for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
            error = math.sqrt(variance / SAMPLES)
            assert abs(np.mean(z**power) - mean) < 5 * error
        expected = 2 * SAMPLES * scipy.stats.norm.sf(4)
        assert abs((np.abs(z) > 4).sum() - expected) < 5 * math.sqrt(expected)


# -- numbers from words

EDGES = words_of(
    [0, 1, 2, 2**31 - 2, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 2, 2**32 - 1]
    + [2**power + step for power in range(3, 32) for step in (-1, 0, 1)]
)
SPREAD = words_of(np.arange(0, 2**32, 8191))  # half a million words over the whole range


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("words", [EDGES, SPREAD], ids=["edges", "spread"])
def test_uniform_is_in_the_half_open_interval(dtype, words):
    u = uniform(words, dtype)
    assert u.dtype == dtype
    bits = jnp.finfo(dtype).nmant + 1
    expected = (np.asarray(words, np.uint64) >> (32 - bits)) / 2.0**bits
    np.testing.assert_array_equal(np.asarray(u, np.float64), expected)
    assert 0 <= float(u.min()) and float(u.max()) < 1


def test_uniform_in_float64_keeps_every_bit():
    with jax.enable_x64(True):
        u = uniform(EDGES, jnp.float64)
        assert u.dtype == jnp.float64
        np.testing.assert_array_equal(u, np.asarray(EDGES, np.float64) / 2**32)


def exact_normal(words):
    signed = np.asarray(words).view(np.int32).astype(np.float64)
    steps = np.where(signed < 0, -1 - signed, signed)
    return np.where(signed < 0, 1, -1) * scipy.special.ndtri((2.0**31 - 1 - steps + 0.5) / 2**32)


@pytest.mark.parametrize("words", [EDGES, SPREAD], ids=["edges", "spread"])
def test_standard_normal_is_the_quantile(words):
    z, exact = np.asarray(standard_normal(words), np.float64), exact_normal(words)
    # As documented; measured on 2.7e8 words: 4.1e-7.
    assert np.max(np.abs(z - exact) / np.maximum(1, np.abs(exact))) < 5e-7
    # The largest of all words, at 2^31 - 1 and 2^31.
    assert np.isfinite(z).all() and np.abs(z).max() < 6.34
    np.testing.assert_array_equal(standard_normal(~words), -standard_normal(words))
    with jax.enable_x64(True):
        precise = standard_normal(words, jnp.float64)
    assert precise.dtype == jnp.float64
    # Both are Cephes' ndtri; libraries differ in the last digits of their logarithm.
    np.testing.assert_allclose(precise, exact, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_standard_normal_in_short_dtypes_is_rounded(dtype):
    z = standard_normal(EDGES, dtype)
    assert z.dtype == dtype
    np.testing.assert_array_equal(z, standard_normal(EDGES).astype(dtype))
    assert bool(jnp.isfinite(z).all())
