"""What every node family must do, checked for each family of the table."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cgjax import nodes
from cgjax.kernels.random_bits import random_words
from tests.nodes.table import (
    CASES,
    CONTINUOUS,
    DISCRETE,
    DISTINCT,
    ELEMENTWISE,
    Case,
    arguments,
    believed,
    compiled_believed,
    compiled_given,
    dense_grid,
    given,
    names,
    sampled,
    samples,
    under_gaussian,
    weighted_moments,
)

# Statistical tests have fixed keys. Were the keys random, one comparison in five standard errors
# would fail with probability 6e-7, and the same bound is used for the tests of distributions.
STANDARD_ERRORS = 5.0
SMALLEST_P_VALUE = 6e-7
STATISTICS = ("activation", "sample")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=names)
def test_shapes_and_dtypes(case: Case, dtype: str):
    with jax.enable_x64(dtype == "float64"):
        e = variance = x = jax.ShapeDtypeStruct((2, 4), jnp.dtype(dtype))
        words = jax.ShapeDtypeStruct((2, 4), jnp.uint32)
        values = jax.eval_shape(given, case.family, words, x, e)
        if dtype in ("bfloat16", "float64"):
            values |= jax.eval_shape(believed, case.family, e, variance)
        at_least_float32 = jnp.promote_types(dtype, jnp.float32)
        for name, value in values.items():
            shape = case.family.mask_shape(e.shape) if name == "log_prob" else e.shape
            assert value.shape == shape, name
            assert value.dtype == (e.dtype if name in STATISTICS else at_least_float32), name


# Families whose states are parameters round these to the dtype of e first.
STATES_OF_THEIR_OWN = (nodes.Binary, nodes.SoftClamp, nodes.Arctan, nodes.SELU, nodes.CELU)


@pytest.mark.parametrize(
    "case",
    [c for c in DISTINCT if type(c.family) not in STATES_OF_THEIR_OWN],
    ids=names,
)
def test_bfloat16_computes_as_float32(case: Case):
    # Everything is exact until the result is rounded.
    words, x, e, _ = arguments(case, jnp.bfloat16)
    narrow = compiled_given(case.family, words, x, e)
    wide = compiled_given(case.family, words, x.astype(jnp.float32), e.astype(jnp.float32))
    for name in wide:
        tolerance = float(jnp.finfo(jnp.bfloat16).eps) if name in STATISTICS else 1e-6
        np.testing.assert_allclose(
            np.asarray(narrow[name], np.float32), wide[name], tolerance, tolerance, err_msg=name
        )


@pytest.mark.parametrize("case", CASES, ids=names)
def test_jit_is_eager(case: Case):
    words, x, e, _ = arguments(case)
    eager = given(case.family, words, x, e)
    compiled = compiled_given(case.family, words, x, e)
    for name in eager:
        # Compilation may fuse and reorder float32 arithmetic: a few units of rounding.
        np.testing.assert_allclose(compiled[name], eager[name], 3e-6, 3e-6, err_msg=name)


@pytest.mark.parametrize("case", DISTINCT, ids=names)
def test_moments_under_jit_and_vmap(case: Case):
    _, _, e, variance = arguments(case)
    compiled = compiled_believed(case.family, e, variance)
    mapped = jax.jit(jax.vmap(partial(believed, case.family)))(e[None], variance[None])
    for name in compiled:
        np.testing.assert_allclose(mapped[name][0], compiled[name], 3e-6, 3e-6, err_msg=name)


@pytest.mark.parametrize("case", DISTINCT, ids=names)
def test_vmap_is_a_loop(case: Case):
    words, x, e, _ = arguments(case)
    batch = [jnp.stack([value, value[::-1]]) for value in (words, x, e)]
    families, axis = case.family, None
    if jax.tree.leaves(case.family) and not case.bounded:
        families, axis = jax.tree.map(lambda p: jnp.stack([p, p / 2]), case.family), 0
    mapped = jax.jit(jax.vmap(given, (axis, 0, 0, 0)))(families, *batch)
    for row in range(2):
        family = jax.tree.map(lambda p: p[row], families) if axis == 0 else case.family  # noqa: B023
        alone = compiled_given(family, *(value[row] for value in batch))
        for name in alone:
            np.testing.assert_allclose(mapped[name][row], alone[name], 3e-6, 3e-6, err_msg=name)


@pytest.mark.parametrize("case", CASES, ids=names)
def test_second_call_with_other_numbers_does_not_retrace(case: Case):
    traces = 0

    @jax.jit
    def run(family, e):
        nonlocal traces
        traces += 1
        return family.activation(e)

    e = jnp.asarray(case.e, jnp.float32)
    run(case.family, e)
    run(jax.tree.map(lambda p: p * 1, case.family), e[::-1])
    assert traces == 1


@pytest.mark.parametrize("case", CASES, ids=names)
def test_is_a_pytree(case: Case):
    leaves, structure = jax.tree.flatten(case.family)
    again = jax.tree.unflatten(structure, leaves)
    assert again == case.family and hash(again) == hash(case.family)
    assert len(leaves) == sum(
        not callable(getattr(case.family, field.name)) and not field.metadata.get("static")
        for field in dataclasses.fields(case.family)
    )
    assert (
        hash(structure) == hash(jax.tree.structure(again))
        and jax.tree.structure(again) == structure
    )
    doubled = jax.tree.map(lambda p: 2 * p, case.family)
    assert (doubled == case.family) == (not leaves)
    # Anything may stand in a leaf's place: transformations put axes and placeholders there.
    jax.tree.unflatten(structure, [object()] * len(leaves))
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(case.family)]
    assert all(hasattr(case.family, path.removeprefix(".")) for path in paths)


def test_families_differ_in_class_and_static_parts():
    distinct = [case.family for case in CASES]
    for row, one in enumerate(distinct):
        assert [one == other for other in distinct].index(True) == row
    assert jax.tree.structure(nodes.Categorical(-1)) != jax.tree.structure(nodes.Categorical(-2))
    assert nodes.Bernoulli() != "Bernoulli()"


@pytest.mark.parametrize("case", CASES, ids=names)
def test_sample_is_word_one_of_the_key(case: Case):
    key, e = jax.random.key(3), jnp.asarray(case.e, jnp.float32)
    np.testing.assert_array_equal(
        case.family.sample(key, e), case.family.from_words(random_words(key, e.shape)[1], e)
    )


@pytest.mark.parametrize("case", CASES, ids=names)
def test_mean_and_variance_against_samples(case: Case):
    drawn, e = samples(case), jnp.asarray(case.e, jnp.float32)
    number = len(drawn)
    mean, variance = drawn.mean(0), drawn.var(0)
    fourth = ((drawn - mean) ** 4).mean(0)
    # Atoms make the error of an estimate zero, where rounding of float32 is left: 1e-6.
    error = np.abs(mean - case.family.mean(e))
    assert np.all(error <= STANDARD_ERRORS * np.sqrt(variance / number) + 1e-6)
    error = np.abs(variance - case.family.variance(e))
    assert np.all(error <= STANDARD_ERRORS * np.sqrt((fourth - variance**2) / number) + 1e-6)


@pytest.mark.parametrize("case", DISCRETE, ids=names)
def test_log_prob_sums_to_one_and_states_are_complete(case: Case):
    with jax.enable_x64(True):
        e = jnp.asarray(case.e)
        statistics = _all_statistics(case, e)
        total = sum(jnp.exp(case.family.log_prob(x, e)) for x in statistics)
        np.testing.assert_allclose(total, 1, rtol=1e-14)  # a few additions in float64
        mean = sum(jnp.exp(case.family.log_prob(x, e)) * x for x in statistics)
        np.testing.assert_allclose(mean, case.family.mean(e), rtol=1e-13, atol=1e-15)
        second = sum(jnp.exp(case.family.log_prob(x, e)) * (x - mean) ** 2 for x in statistics)
        np.testing.assert_allclose(second, case.family.variance(e), rtol=1e-13)
        drawn = samples(case)[:1000]
        seen = [np.isclose(drawn, x, rtol=1e-6) for x in statistics]
        assert np.all(np.any(seen, axis=0))


@pytest.mark.parametrize("case", DISCRETE, ids=names)
def test_sampling_frequencies_of_discrete_families(case: Case):
    drawn, e = samples(case), jnp.asarray(case.e, jnp.float32)
    for x in _all_statistics(case, e):
        x = np.asarray(x, np.float64)
        if isinstance(case.family, nodes.Categorical):
            hit = np.all(drawn == x, axis=case.family.axis, keepdims=True)
        else:
            hit = drawn == np.float32(x)
        probability = np.exp(np.asarray(case.family.log_prob(jnp.float32(x), e), np.float64))
        observed = np.sum(hit, axis=0)
        expected = len(drawn) * probability
        chi_squared = (observed - expected) ** 2 * (1 / expected + 1 / (len(drawn) - expected))
        assert np.all(chi_squared < scipy.stats.chi2.isf(SMALLEST_P_VALUE, 1))


@pytest.mark.parametrize("case", CONTINUOUS, ids=names)
def test_density_has_mass_one_and_the_stated_moments(case: Case):
    with jax.enable_x64(True):
        e = jnp.asarray(case.e)
        points, mass = _distribution(case, e)
        # Gauss-Legendre over 12 standard deviations, with panels that crowd around 0: 1e-10.
        np.testing.assert_allclose(mass.sum(0), 1, rtol=1e-10)
        mean, variance = weighted_moments(points, mass)
        np.testing.assert_allclose(mean, case.family.mean(e), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(variance, case.family.variance(e), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("case", CONTINUOUS, ids=names)
def test_samples_follow_the_density(case: Case):
    drawn = samples(case)[:20_000]
    with jax.enable_x64(True):
        all_points, all_mass = _distribution(case, jnp.asarray(case.e))
    for index in np.ndindex(2, 4):
        x, points, mass = (v[(slice(None), *index)] for v in (drawn, all_points, all_mass))
        atom = mass[points == 0].sum()
        standard_error = np.sqrt(max(atom * (1 - atom), 0) / len(x))
        assert abs(np.mean(x == 0) - atom) <= STANDARD_ERRORS * standard_error
        x, points, mass = x[x != 0], points[points != 0], mass[points != 0]
        if mass.sum() * len(drawn) < 20:
            continue  # too few samples beside the atom, whose frequency has just been checked
        distribution = (np.cumsum(mass) - mass / 2) / mass.sum()
        result = scipy.stats.kstest(x, lambda v: np.interp(v, points, distribution))  # noqa: B023
        assert result.pvalue > SMALLEST_P_VALUE


@pytest.mark.parametrize(
    "case", [c for c in DISTINCT if c in ELEMENTWISE and not c.bounded], ids=names
)
def test_moments_under_a_gaussian_natural_parameter(case: Case):
    for variance in (1e-6, 0.01, 1.0, 16.0, 1e4):
        with jax.enable_x64(True):
            mean = case.e * max(1.0, variance**0.5)
            got = compiled_believed(case.family, jnp.asarray(mean), jnp.full((2, 4), variance))
            points, weights = under_gaussian(mean, variance)
            values = _conditional(case.family, jnp.asarray(points))
        given_mean, spread = weighted_moments(values["mean"], weights)
        noise, _ = weighted_moments(values["variance"], weights)
        activation, wobble = weighted_moments(values["activation"], weights)
        # The quadrature's documented accuracy: 2e-5 of the deviation, and 5e-5 of the variance, of
        # what a unit of e does to the statistic. A binary node's steepest slope is
        # (high - low)^2 / 4, and an error of its mean, times high - low, is one of its variance.
        deviation, square = variance**0.5, variance
        if case.family.discrete:
            low, high = np.min(case.family.states()), np.max(case.family.states())
            spread_of_states = high - low
            slope = spread_of_states**2 / 4
            deviation, square = slope * deviation, slope**2 * square
            deviation = min(deviation, 25 * spread_of_states)
            square = min(square, 10 * spread_of_states**2)
        else:
            spread_of_states = 0.0
        for name, expected, unit in (
            ("statistic_mean", given_mean, 2e-5 * deviation),
            (
                "statistic_variance",
                spread + noise,
                max(5e-5 * square, 2e-5 * spread_of_states * deviation),
            ),
            ("activation_mean", activation, 2e-5 * deviation),
            ("activation_variance", wobble, 5e-5 * square),
        ):
            # 1e-13 for rounding in float64.
            np.testing.assert_allclose(got[name], expected, 1e-12, unit + 1e-13, err_msg=name)


# The belief of a categorical node is an approximation, which test_softmax_moments.py measures.
@pytest.mark.parametrize(
    "case",
    [c for c in DISTINCT if not c.bounded and not isinstance(c.family, nodes.Categorical)],
    ids=names,
)
def test_belief_of_the_statistic_against_samples(case: Case):
    number, variance = 100_000, 2.0
    mean = jnp.asarray(case.e, jnp.float32)
    noise = np.random.default_rng(1).normal(size=(number, *mean.shape))
    e = np.asarray(case.e + variance**0.5 * noise, np.float32)
    drawn = sampled(case.family, 2, e)
    belief = compiled_believed(case.family, mean, jnp.full_like(mean, variance))
    error = np.abs(drawn.mean(0) - belief["statistic_mean"])
    assert np.all(error <= STANDARD_ERRORS * drawn.std(0) / number**0.5)
    fourth = ((drawn - drawn.mean(0)) ** 4).mean(0)
    error = np.abs(drawn.var(0) - belief["statistic_variance"])
    assert np.all(error <= STANDARD_ERRORS * np.sqrt((fourth - drawn.var(0) ** 2) / number))


@pytest.mark.parametrize("case", CASES, ids=names)
def test_belief_of_a_known_natural_parameter(case: Case):
    words, x, e, variance = arguments(case)
    known = compiled_given(case.family, words, x, e)
    belief = compiled_believed(case.family, e, 0 * variance)
    # Rounding of float32 in two ways of computing one number.
    np.testing.assert_allclose(belief["statistic_mean"], known["mean"], 2e-6, 1e-6)
    np.testing.assert_allclose(belief["statistic_variance"], known["variance"], 4e-6, 1e-6)
    np.testing.assert_allclose(belief["activation_mean"], known["activation"], 2e-6, 1e-6)
    np.testing.assert_allclose(belief["activation_variance"], jnp.zeros_like(e), atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=names)
def test_gradient_through_samples(case: Case):
    words, _, e, _ = arguments(case)

    def total(family, e):
        return jnp.sum(family.from_words(words, e) * jnp.linspace(1.0, 2.0, 8).reshape(2, 4))

    family = jax.tree.map(jnp.float32, case.family)
    gradient = jax.grad(total, argnums=(0, 1))(family, e)
    nonzero = any(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))
    assert not (case.family.discrete and case.family.reparameterised)
    assert nonzero == (not case.family.discrete)


@pytest.mark.parametrize("case", CASES, ids=names)
def test_parameter_and_dtype_errors(case: Case):
    with pytest.raises(TypeError, match=r"floating-point .* got dtype int32 .*astype"):
        case.family.activation(jnp.ones((2, 4), jnp.int32))
    with pytest.raises(TypeError, match="complex64"):
        case.family.log_prob(jnp.ones((2, 4)), jnp.ones((2, 4), jnp.complex64))
    with pytest.raises(ValueError, match=r"variance of shape \(4,\).*shape of the mean"):
        case.family.moments(jnp.full((2, 4), 0.5), jnp.ones(4))
    if any(np.ndim(leaf) for leaf in jax.tree.leaves(case.family)):
        for shape in ((2, 5), (), (2, 1)):
            with pytest.raises(ValueError, match=r"has shape \(4,\).*does not broadcast"):
                case.family.check(shape)
        case.family.check((7, 2, 4))


_GATED = nodes.GELU | nodes.SiLU | nodes.Mish | nodes.HardSiLU
_MOVING = _GATED | nodes.ELU | nodes.SELU | nodes.CELU


@pytest.mark.parametrize("case", CASES, ids=names)
def test_states_of_discrete_families_only(case: Case):
    if case.family.discrete:
        case.family.states(3 if isinstance(case.family, nodes.Categorical) else 1)
    else:
        # Of units that are e or 0, and the like, the few values are no continuum.
        moving = isinstance(case.family, _MOVING)
        why = r"values that move with e \(.*0" if moving else "a continuum of values"
        with pytest.raises(TypeError, match=f"{why}.*Bernoulli.*sampling"):
            case.family.states()


@jax.jit
def _conditional(family: nodes.Family, e: jax.Array) -> dict[str, jax.Array]:
    return {
        "mean": family.mean(e),
        "variance": family.variance(e),
        "activation": family.activation(e),
    }


def _all_statistics(case: Case, e: jax.Array) -> list[jax.Array]:
    """Every value that the statistic can take, in the shape of e."""
    if isinstance(case.family, nodes.Categorical):
        axis = case.family.axis
        rows = case.family.states(e.shape[axis])
        shape = [1] * e.ndim
        shape[axis] = e.shape[axis]
        return [jnp.broadcast_to(row.reshape(shape), e.shape).astype(e.dtype) for row in rows]
    return [jnp.broadcast_to(state, e.shape).astype(e.dtype) for state in case.family.states()]


def _distribution(case: Case, e: jax.Array) -> tuple[np.ndarray, np.ndarray]:
    """For each element of e: points of x in order, and their probabilities."""
    # The tail above the atom of a rectified node is as long as that of its Gaussian (scale < 3).
    width = 12 * np.sqrt(case.family.variance(e)) + np.abs(case.family.mean(e)) + 12
    centre = np.zeros(e.shape)
    if isinstance(case.family, nodes.ContinuousBernoulli):  # its density ends at 0 and at 1
        centre, width = centre + 0.5, 0.5 + centre
    if isinstance(case.family, nodes.SparsePlus):
        first, last = np.maximum(e - 1, 0), np.maximum(e + 1, 0)
        centre, width = (first + last) / 2, (last - first) / 2
    points, weights = dense_grid(centre, np.asarray(width))
    zero = np.zeros((1, *e.shape))
    points = np.concatenate([points, zero])
    # At 0 there is an atom only where a rectifier has no leak; elsewhere 0 is one more point of a
    # density, of no weight.
    rectifier = isinstance(
        case.family, nodes.ReLU | nodes.Softplus | nodes.NairHinton | nodes.SparsePlus
    )
    leak = np.broadcast_to(getattr(case.family, "leak", 0.0 if rectifier else 1.0), e.shape)
    weights = np.concatenate([weights, (leak == 0)[None] * 1.0])
    order = np.argsort(points, axis=0)
    points = np.take_along_axis(points, order, axis=0)
    weights = np.take_along_axis(weights, order, axis=0)
    density = jax.jit(case.family.log_prob)(points, jnp.broadcast_to(e, points.shape))
    return points, weights * np.exp(density)
