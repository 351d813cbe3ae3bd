"""Forms of one function in which moments once saw two: axes of length 1, shifts that cancel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import Belief

ALONE = {
    "softmax": (jax.nn.softmax, 1, 0),
    "softmax by hand": (lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True), 1, 0),
    "log_softmax": (jax.nn.log_softmax, 0, 0),
    "mean": (lambda x: x - x.mean(-1, keepdims=True), 0, 0),
    "largest": (lambda x: x - x.max(-1, keepdims=True), 0, 0),
    "var": (lambda x: x.var(-1, keepdims=True), 0, 0),
    "sum": (lambda x: x.sum(-1, keepdims=True), 1, 1),
    "product": (lambda x: x.prod(-1, keepdims=True), 1, 1),
    "cumsum": (lambda x: x - jnp.cumsum(x, -1), 0, 0),
}


def test_over_an_axis_of_length_one_an_element_is_its_sum_and_its_largest():
    x = Belief(jnp.ones((2, 1)), jnp.ones((2, 1)))
    results = jax.jit(lambda x: {k: cg.moments(f)(x) for k, (f, *_) in ALONE.items()})(x)
    for name, (_, mean, variance) in ALONE.items():
        np.testing.assert_allclose(
            results[name].mean, np.full((2, 1), mean), 1e-6, 1e-6, err_msg=name
        )
        np.testing.assert_allclose(results[name].variance, np.full((2, 1), variance), 1e-6, 1e-6)


def shifted_softmax(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def shifted_log_softmax(x):
    d = x - x.max(-1, keepdims=True)
    return d - jnp.log(jnp.exp(d).sum(-1, keepdims=True))


def shifted_log_sum_exp(x):
    m = x.max(-1)
    return m + jnp.log(jnp.exp(x - m[:, None]).sum(-1))


def test_what_the_largest_value_is_subtracted_from_is_what_it_is_without():
    pairs = [
        (jax.nn.softmax, shifted_softmax),
        (jax.nn.log_softmax, shifted_log_softmax),
        (lambda x: jax.nn.logsumexp(x, -1), shifted_log_sum_exp),
    ]
    x = Belief(jax.random.normal(jax.random.key(1), (3, 5)), jnp.full((3, 5), 0.2))
    results = jax.jit(lambda x: [tuple(cg.moments(f)(x) for f in pair) for pair in pairs])(x)
    for plain, shifted in results:
        np.testing.assert_allclose(shifted.mean, plain.mean, rtol=1e-5)
        np.testing.assert_allclose(shifted.variance, plain.variance, rtol=1e-5)


def test_what_is_used_often_is_computed_once():
    """Each step uses the one before three times: the program grows by as much for each."""

    def lines(steps):
        def function(x):
            for _ in range(steps):
                x = jnp.sin(x) * jnp.cos(x) + x / 2
            return x

        x = Belief(jnp.zeros(3), jnp.ones(3))
        return len(jax.jit(cg.moments(function)).lower(x).as_text().splitlines())

    few, more, many = map(lines, (2, 4, 12))
    assert many - more <= 5 * (more - few)


def test_the_larger_of_two_elements_of_one_array():
    forms = [
        lambda v: jnp.maximum(v[0], v[1]),
        lambda v: jnp.where(v[0] > v[1], v[0], v[1]),
        lambda v: jnp.where(v[:1] < v[1:], v[1:], v[:1])[0],
        lambda v: v[1] + jax.nn.relu(v[0] - v[1]),
    ]
    v = Belief(jnp.array([0.1, 0.0]), jnp.array([0.3, 0.4]))
    first, *others = jax.jit(lambda v: [cg.moments(f)(v) for f in forms])(v)
    for other in others:
        np.testing.assert_allclose(other.mean, first.mean, rtol=1e-5)
        np.testing.assert_allclose(other.variance, first.variance, rtol=1e-5)


def test_a_nonlinear_function_that_two_variables_choose_is_said():
    x, y = (Belief(jnp.full(2, m), jnp.full(2, 0.3)) for m in (0.2, 0.0))
    with pytest.warns(UserWarning, match="test_equal_forms.py.*as Gaussian together"):
        cg.moments(lambda x, y: jnp.where(x > y, jnp.tanh(x), y))(x, y)
    # No warning, which would be an error here, where nothing is approximate.
    cg.moments(lambda x, y: jnp.where(x > y, 2 * x, y - 1))(x, y)
    cg.moments(lambda x, y: jnp.where(x > 0, jnp.tanh(x), y))(x, y)
    cg.moments(jnp.logaddexp)(x, y)


def interpolations(w, x, y):
    """Ways to write what lies between `tanh(x @ w)` and y, by a known and an uncertain share."""
    start, gate = jnp.tanh(x @ w), jax.nn.sigmoid(y @ w)
    return {
        name: {
            "mixture": (1 - s) * start + s * y,
            "from the start": start + s * (y - start),
            "from the end": y - (1 - s) * (y - start),
            "subtracted": start - s * (start - y),
            "turned": (y - start) * s + start,
        }
        for name, s in (("known", 0.25), ("uncertain", gate))
    }


def test_an_interpolation_is_a_mixture():
    """Of a known share it is linear, so that its variance is known."""
    x, y = (
        Belief(jax.random.normal(jax.random.key(k), (3, 4)), jnp.full((3, 4), 0.1)) for k in (2, 3)
    )
    w = jax.random.normal(jax.random.key(4), (4, 4)) / 2
    found = jax.jit(lambda x, y: cg.moments(interpolations)(w, x, y))(x, y)
    start = cg.moments(lambda x: jnp.tanh(x @ w))(x)
    expected = 0.75**2 * start.variance + 0.25**2 * y.variance
    np.testing.assert_allclose(found["known"]["mixture"].variance, expected, rtol=1e-5)
    for forms in found.values():
        for name, one in forms.items():
            np.testing.assert_allclose(
                one.mean, forms["mixture"].mean, rtol=1e-5, atol=1e-6, err_msg=name
            )
            np.testing.assert_allclose(
                one.variance, forms["mixture"].variance, rtol=1e-4, err_msg=name
            )
