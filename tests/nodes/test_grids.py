"""Random fields over images, against the sum over all images and against independent draws."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.kernels import dense_grids, grids
from cgjax.nodes import DenseGrid, Grid

GENERATOR = np.random.default_rng(0)
HEIGHT, WIDTH, LABELS = 3, 4, 2
SHAPE = (HEIGHT, WIDTH, LABELS)
E = GENERATOR.normal(size=SHAPE).astype(np.float32)
# Of a label and the one below, and of a label and the one on its right: neither is symmetric.
COUPLINGS = (0.5 * GENERATOR.normal(size=(2, LABELS, LABELS))).astype(np.float32)
IMAGE = GENERATOR.random((HEIGHT, WIDTH, 3)).astype(np.float32)
POTTS = np.array([[0.0, 1.0], [1.0, 0.0]], np.float32)
DRAWS = 4000
DENSE = DenseGrid(IMAGE, POTTS, appearance_weight=0.5, smoothness_weight=0.5)
FIELDS = {"grid": Grid(COUPLINGS), "dense": DENSE}

IMAGES = np.array(list(itertools.product(range(LABELS), repeat=HEIGHT * WIDTH)))
ONE_HOT = np.eye(LABELS)[IMAGES].reshape(-1, *SHAPE)


def _scores(name: str) -> np.ndarray:
    """Unnormalised log-probabilities of all images, in float64."""
    alone = (ONE_HOT * E.astype(np.float64)).sum((1, 2, 3))
    if name == "grid":
        down, right = COUPLINGS.astype(np.float64)
        pairs = np.einsum("nhwk,kl,nhwl->n", ONE_HOT[:, :-1], down, ONE_HOT[:, 1:])
        return (
            alone
            + pairs
            + np.einsum("nhwk,kl,nhwl->n", ONE_HOT[:, :, :-1], right, ONE_HOT[:, :, 1:])
        )
    places = np.stack(np.meshgrid(range(HEIGHT), range(WIDTH), indexing="ij"), -1).reshape(-1, 2)
    colours = IMAGE.reshape(-1, 3).astype(np.float64)
    far = ((places[:, None] - places[None]) ** 2).sum(-1)
    different = ((colours[:, None] - colours[None]) ** 2).sum(-1)
    kernel = 0.5 * np.exp(-far / (2 * 10**2) - different / (2 * 0.2**2)) + 0.5 * np.exp(-far / 2)
    np.fill_diagonal(kernel, 0)
    flat = ONE_HOT.reshape(len(ONE_HOT), -1, LABELS)
    return alone - np.einsum("nik,kl,njl,ij->n", flat, POTTS, flat, kernel, optimize=True) / 2


SCORES = {name: _scores(name) for name in FIELDS}
LAWS = {name: np.exp(s - s.max()) / np.exp(s - s.max()).sum() for name, s in SCORES.items()}
MARGINALS = {name: np.einsum("n,nhwk->hwk", law, ONE_HOT) for name, law in LAWS.items()}


# All images of two by two pixels, and their law under the first scores and the same couplings.
SQUARES = np.eye(LABELS)[np.array(list(itertools.product(range(LABELS), repeat=4)))]
SQUARES = SQUARES.reshape(-1, 2, 2, LABELS)


def _law_of_squares() -> np.ndarray:
    scores = (SQUARES * E[:2, :2]).sum((1, 2, 3))
    scores += np.einsum("nwk,kl,nwl->n", SQUARES[:, 0], COUPLINGS[0], SQUARES[:, 1])
    scores += np.einsum("nhk,kl,nhl->n", SQUARES[:, :, 0], COUPLINGS[1], SQUARES[:, :, 1])
    return np.exp(scores) / np.exp(scores).sum()


LAW_OF_SQUARES = _law_of_squares()


@pytest.mark.parametrize("inference", ["belief_propagation", "mean_field"])
@pytest.mark.parametrize("schedule", ["sequential", "parallel"])
def test_marginals_come_near_the_sum_over_all_images(inference, schedule):
    found = Grid(COUPLINGS, 15, inference, schedule, damping=0.2).activation(E)
    # What these approximations leave: measured 2e-5 and 8e-3 where couplings are this weak.
    bound = {"belief_propagation": 1e-4, "mean_field": 0.02}[inference]
    assert abs(found - MARGINALS["grid"]).max() < bound
    alone = abs(jax.nn.softmax(E) - MARGINALS["grid"]).max()
    assert alone > 5 * bound  # and what no inference leaves


@pytest.mark.parametrize("shape", [(1, 12, LABELS), (12, 1, LABELS)])
@pytest.mark.parametrize(("schedule", "iterations"), [("sequential", 1), ("parallel", 11)])
def test_belief_propagation_is_exact_on_a_line(shape, schedule, iterations):
    e = E.reshape(shape).astype(np.float64)
    matrix = COUPLINGS[0 if shape[1] == 1 else 1].astype(np.float64)
    line = np.einsum("tk,ntk->n", e.reshape(12, LABELS), np.eye(LABELS)[IMAGES])
    line += matrix[IMAGES[:, :-1], IMAGES[:, 1:]].sum(1)
    law = np.exp(line - line.max())
    expected = np.einsum("n,ntk->tk", law / law.sum(), np.eye(LABELS)[IMAGES])
    with jax.enable_x64(True):
        node = Grid(COUPLINGS.astype(np.float64), iterations, schedule=schedule)
        found = node.activation(e)
    np.testing.assert_allclose(np.asarray(found).reshape(12, LABELS), expected, atol=1e-12)


def test_each_sequential_update_lowers_the_free_energy():
    couplings = jnp.asarray(4 * COUPLINGS)
    e = jnp.asarray(E)
    energies = [
        float(grids.free_energy(grids.mean_field(e, couplings, n, 0.0, "sequential"), e, couplings))
        for n in (1, 2, 3, 6)
    ]
    assert energies == sorted(energies, reverse=True)
    assert energies[0] - energies[-1] > 1e-3
    down, right = 4 * COUPLINGS.astype(np.float64)
    scores = (ONE_HOT * E).sum((1, 2, 3))
    scores += np.einsum("nhwk,kl,nhwl->n", ONE_HOT[:, :-1], down, ONE_HOT[:, 1:])
    scores += np.einsum("nhwk,kl,nhwl->n", ONE_HOT[:, :, :-1], right, ONE_HOT[:, :, 1:])
    assert energies[-1] >= -np.logaddexp.reduce(scores)  # Jensen


@pytest.mark.parametrize("name", FIELDS)
def test_samples_have_the_law(name):
    shape = (DRAWS, *SHAPE)
    words = jax.random.bits(jax.random.key(1), shape)
    drawn = np.asarray(jax.jit(FIELDS[name].from_words)(words, np.broadcast_to(E, shape)))
    assert (drawn.sum(-1) == 1).all()
    # Five standard errors; fifty sweeps (twenty of the dense one) leave no more than that.
    assert abs(drawn.mean(0) - MARGINALS[name]).max() < 5 * 0.5 / DRAWS**0.5
    # Pixels of one image depend on each other as they should: so do these two, of opposite corners
    # of a square, whose labels would be independent if marginals were drawn.
    one, other = drawn[:, 1, 1, 0], drawn[:, 1, 2, 0]
    together = np.einsum("n,n->", LAWS[name], ONE_HOT[:, 1, 1, 0] * ONE_HOT[:, 1, 2, 0])
    assert abs((one * other).mean() - together) < 5 * 0.5 / DRAWS**0.5
    again = FIELDS[name].from_words(words[:3], np.broadcast_to(E, (3, *SHAPE)))
    np.testing.assert_array_equal(again, drawn[:3])  # an image is drawn by its own words


@pytest.mark.parametrize("name", FIELDS)
def test_the_mode_is_the_best_image(name):
    best = ONE_HOT[SCORES[name].argmax()]
    np.testing.assert_array_equal(FIELDS[name].mode(E), best)


@pytest.mark.parametrize("name", FIELDS)
def test_pseudo_likelihood_is_the_product_of_conditionals(name):
    index = 1234
    found = FIELDS[name].pseudo_log_prob(ONE_HOT[index], E)
    expected = 0.0
    for pixel in range(HEIGHT * WIDTH):
        others = np.delete(IMAGES, pixel, 1)
        same = (others == others[index]).all(1)
        expected += SCORES[name][index] - np.logaddexp.reduce(SCORES[name][same])
    assert found.shape == (1, 1, 1)
    np.testing.assert_allclose(found.item(), expected, rtol=1e-5)
    impossible = jnp.asarray(E).at[0, 0, IMAGES[index, 0]].set(-jnp.inf)
    value, slope = jax.value_and_grad(
        lambda e: FIELDS[name].pseudo_log_prob(ONE_HOT[index], e).sum()
    )(impossible)
    assert value == -jnp.inf
    assert (slope == 0).all()


def _net(e):
    return cg.node(FIELDS["grid"], e, name="pixels")[..., 0]


def test_in_procedures():
    batch = jnp.stack([E, -E])
    key = jax.random.key(0)
    together = cg.forward_sample(_net)(key, batch)
    assert set(np.unique(together)) <= {0.0, 1.0}
    marginals = cg.feed_forward(_net)(batch)
    np.testing.assert_allclose(marginals[0], MARGINALS["grid"][..., 0], atol=1e-4)
    # An image is one node: sampled or collapsed as a whole.
    for image, collapsed in zip(cg.pcff(_net, {"pixels": 0.5})(key, batch), marginals, strict=True):
        is_sample = ((image == 0) | (image == 1)).all()
        assert is_sample != jnp.array_equal(image, collapsed)
    value = jax.nn.one_hot(1 - together[0].astype(int), 2)
    found = cg.pseudo_likelihood(_net)({"pixels": value}, E)
    np.testing.assert_allclose(found, FIELDS["grid"].pseudo_log_prob(value, E).sum(), rtol=1e-6)
    with pytest.raises(TypeError, match="pseudo_likelihood"):
        cg.log_joint(_net)({"pixels": value}, E)


def test_pseudo_likelihood_is_the_joint_one_of_other_families():
    def net(x):
        return cg.node(cg.nodes.Spin(), cg.node(cg.nodes.Gaussian(1.0), x, name="a"), name="b")

    values = {"a": jnp.array([0.3, -1.0]), "b": jnp.array([1.0, -1.0])}
    x = jnp.array([0.5, 2.0])
    assert cg.pseudo_likelihood(net)(values, x) == cg.log_joint(net)(values, x)
    with pytest.raises(ValueError, match=r"pseudo_likelihood needs a value .* missing: b"):
        cg.pseudo_likelihood(net)({"a": values["a"]}, x)


def test_beliefs_are_those_of_samples_where_scores_are_uncertain():
    variance = np.full(SHAPE, 0.01, np.float32)
    statistic, activation = FIELDS["grid"].moments(E, variance)
    near = E + 0.1 * GENERATOR.normal(size=(2000, *SHAPE)).astype(np.float32)
    values = np.asarray(jax.jit(FIELDS["grid"].activation)(near))
    assert abs(statistic.mean - values.mean(0)).max() < 0.01
    np.testing.assert_allclose(statistic.variance, statistic.mean * (1 - statistic.mean), rtol=1e-6)
    # Neighbours' scores are left out, so it is the lower one, by at most a third here.
    ratio = np.asarray(activation.variance) / values.var(0)
    assert (ratio < 1.1).all()
    assert (ratio > 0.6).all()


@pytest.mark.parametrize("name", [*FIELDS, "exact"])
def test_no_variance_is_negative(name):
    """Labels that are nearly certain: sums over states of rows round to more than 1."""
    e = 30 * jnp.asarray(np.random.default_rng(0).normal(size=(200, *SHAPE)), jnp.float32)
    family = FIELDS.get(name, Grid(COUPLINGS, inference="exact"))
    values = jax.jit(lambda e: (family.variance(e), *family.moments(e, jnp.float32(0.3))))(e)
    for value in (values[0], values[1].variance, values[2].variance):
        assert (value >= 0).all()
        assert (value > 0).any()


def test_training_by_pseudo_likelihood_finds_the_couplings():
    shape = (300, 6, 6, 2)
    truth = np.array([[0.5, -0.5], [-0.5, 0.5]], np.float32)
    words = jax.random.bits(jax.random.key(2), shape)
    images = jax.jit(Grid(truth).from_words)(words, np.zeros(shape, np.float32))

    @jax.jit
    def step(strength):
        def loss(strength):
            node = Grid(strength * jnp.sign(truth))
            return -node.pseudo_log_prob(images, jnp.zeros(shape)).mean()

        slope, curvature = jax.grad(loss)(strength), jax.grad(jax.grad(loss))(strength)
        return strength - slope / curvature

    strength = jnp.float32(0.0)
    for _ in range(5):
        strength = step(strength)
    assert abs(strength - 0.5) < 0.05  # 18,000 pairs: five standard errors are about 0.03


def test_a_kernel_of_one_pixel_is_its_row():
    touch = dense_grids.Touch(
        2.0 * dense_grids.gaussian(jnp.arange(3.0)[:, None] - jnp.arange(3.0)[None], jnp.ones(())),
        dense_grids.gaussian(jnp.arange(4.0)[:, None] - jnp.arange(4.0)[None], jnp.ones(())),
        dense_grids.appearance(jnp.asarray(IMAGE), jnp.float32(10), jnp.float32(0.2)),
    )
    x = ONE_HOT[77].astype(np.float32)
    rows = jnp.stack([touch.of_one(jnp.int32(i)) for i in range(12)])
    np.testing.assert_allclose(
        (rows @ x.reshape(-1, 2)).reshape(SHAPE), touch.sums(jnp.asarray(x)), rtol=1e-5
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(np.ones((2, 3))), "couplings has shape (2, 3); expected (labels, labels)"),
        (lambda: Grid(np.ones((3, 2, 2))), "couplings has shape (3, 2, 2)"),
        (lambda: Grid(np.full((2, 2), -np.inf)), "must be finite"),
        (lambda: Grid(POTTS, 0), "iterations must be an integer of at least 1, got 0"),
        (lambda: Grid(POTTS, inference="best"), "inference must be one of 'belief_propagation'"),
        (
            lambda: Grid(POTTS, inference="exact").activation(np.zeros((11, 12, 2), np.float32)),
            "has 2^11 states of a row, and 1024 at most",
        ),
        (lambda: Grid(POTTS, damping=1.0), "damping must be at least 0 and below 1, got 1.0"),
        (lambda: DenseGrid(None, np.ones((2, 3))), "compatibility has shape (2, 3)"),
        (lambda: DenseGrid(None, np.array([[0.0, 1.0], [2.0, 0.0]])), "symmetric"),
        (lambda: DenseGrid(None, POTTS, colour_scale=0.0), "colour_scale must be positive"),
        (lambda: Grid(POTTS).activation(E[0]), "(..., height, width, labels)"),
        (
            lambda: DENSE.activation(E[:2]),
            "image has shape (3, 4, 3); expected (..., 2, 4, channels)",
        ),
        (lambda: cg.exact_marginals(_net)(E), "The mean of a Grid is approximate"),
    ],
)
def test_bad_input_says_what_was_wrong(make, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        make()


def test_a_score_that_is_no_number_gives_none():
    e = jnp.asarray(np.stack([E, E])).at[0, 1, 1, 0].set(jnp.nan)
    words = jax.random.bits(jax.random.key(0), e.shape)
    both = jax.jit(lambda e: (FIELDS["grid"].mode(e), FIELDS["grid"].from_words(words, e)))
    for found in map(np.asarray, both(e)):
        assert np.isnan(found[0]).all()
        assert not np.isnan(found[1]).any()


@pytest.mark.parametrize("schedule", ["sequential", "parallel"])
def test_derivatives_keep_their_digits_through_many_messages(schedule):
    """A long way: 10 x 10 pixels, 10 times over. They are those of float64."""
    e = 2 * GENERATOR.normal(size=(10, 10, LABELS))
    weights = GENERATOR.normal(size=e.shape)

    def slopes(dtype):
        def f(e, couplings):
            node = Grid(couplings, 10, schedule=schedule)
            return (node.activation(e) * jnp.asarray(weights, dtype)).sum()

        return jax.jit(jax.grad(f, (0, 1)))(jnp.asarray(e, dtype), jnp.asarray(COUPLINGS, dtype))

    found = slopes(jnp.float32)
    with jax.enable_x64(True):
        expected = slopes(jnp.float64)
    for ours, exact in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, exact, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("turned", [False, True])
def test_exact_inference_is_the_sum_over_all_images(turned):
    def turn(x):
        return np.swapaxes(x, -3, -2) if turned else x

    node = Grid(COUPLINGS[::-1] if turned else COUPLINGS, inference="exact")
    marginals = turn(MARGINALS["grid"])
    some = turn(ONE_HOT[[0, 77, 4000]])

    @jax.jit
    def told(some, e):
        log_prob = node.log_prob(some, jnp.broadcast_to(e, some.shape))
        return node.activation(e), node.mode(e), log_prob

    activation, mode, found = told(some, turn(E))
    np.testing.assert_allclose(activation, marginals, atol=1e-6)
    assert found.shape == (3, 1, 1, 1)
    np.testing.assert_allclose(found.ravel(), np.log(LAWS["grid"][[0, 77, 4000]]), rtol=1e-5)
    np.testing.assert_array_equal(mode, turn(ONE_HOT[SCORES["grid"].argmax()]))
    shape = (DRAWS, *turn(E).shape)
    words = jax.random.bits(jax.random.key(3), shape)
    drawn = np.asarray(jax.jit(node.from_words)(words, np.broadcast_to(turn(E), shape)))
    assert abs(drawn.mean(0) - marginals).max() < 5 * 0.5 / DRAWS**0.5
    net = lambda e: cg.node(node, e, name="x")  # noqa: E731
    value = cg.log_joint(net)({"x": some[1]}, turn(E))
    np.testing.assert_allclose(value, np.log(LAWS["grid"][77]), rtol=1e-5)
    assert (told(0.5 * some, turn(E))[2] == -np.inf).all()


def test_exact_marginals_of_what_follows_a_small_grid():
    node = Grid(COUPLINGS, inference="exact")

    def net(e):
        pixels = cg.node(node, e, name="pixels")
        return cg.node(cg.nodes.Spin(), 2 * pixels[..., 0].sum() - 3, name="spin")

    expected = (LAW_OF_SQUARES * np.tanh(2 * SQUARES[..., 0].sum((1, 2)) - 3)).sum()
    np.testing.assert_allclose(cg.exact_marginals(net)(E[:2, :2]), expected, atol=1e-5)


def test_parameters_are_mapped_as_loops_map_them():
    e, strengths = jnp.stack([jnp.asarray(E), -jnp.asarray(E)]), jnp.array([0.1, 0.5, 1.0])

    def grid(strength):
        return cg.feed_forward(lambda e: cg.node(Grid(strength * COUPLINGS[0]), e))(e)

    def dense(strength):
        node = DenseGrid(IMAGE, strength * POTTS, smoothness_weight=strength)
        return cg.feed_forward(lambda e: cg.node(node, e))(e)

    for function in (grid, dense):
        together = jax.jit(jax.vmap(function))(strengths)
        apart = jnp.stack([*map(jax.jit(function), strengths)])
        np.testing.assert_allclose(together, apart, atol=1e-6)
