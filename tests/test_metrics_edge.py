"""Metrics where they are easily wrong: labels, conventions, zeros, and millions of examples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import metrics

PROBS = jnp.array([[0.5, 0.5], [0.1, 0.9]])
LABELS = jnp.array([0, 1])
OF_PROBS = {"ece": metrics.ece, "brier": metrics.brier}
OF_LOG_PROBS = {
    "nll": lambda p: metrics.nll(p, LABELS),
    "entropy": metrics.entropy,
    "model_average": lambda p: metrics.model_average(p[None]),
    "mutual_information": lambda p: metrics.mutual_information(p[None]),
}


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint8, jnp.int8, jnp.uint32])
@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_makes_every_figure_not_a_number(label, dtype):
    labels = jnp.array([0, label]).astype(dtype)
    figures = [f(PROBS, labels) for f in (metrics.error, metrics.ece, metrics.brier)]
    figures += [metrics.nll(jnp.log(PROBS), labels), jax.jit(metrics.error)(PROBS, labels)]
    assert np.isnan(figures).all()


@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8, jnp.int16])
def test_labels_of_few_bits_name_classes_of_any_number(dtype):
    labels = jnp.arange(100, dtype=dtype)
    certain = jnp.eye(300)[:100]
    assert metrics.brier(certain, labels) == metrics.error(certain, labels) == 0
    assert jnp.isnan(metrics.nll(jnp.full((1, 128), -jnp.log(128.0)), -jnp.ones(1, jnp.int8)))


def test_labels_are_integers():
    with pytest.raises(Exception, match=r"labels are the numbers of classes|[Tt]ype-check"):
        metrics.error(PROBS, jnp.array([0.0, 1.0]))


@pytest.mark.parametrize("name", OF_PROBS)
def test_log_probabilities_in_place_of_probabilities(name):
    f = OF_PROBS[name]
    for wrong in (jnp.log(PROBS), 3 * PROBS, jnp.log(jnp.eye(2))):
        with pytest.raises(ValueError, match=r"takes probabilities.*softmax"):
            f(wrong, LABELS)
        assert jnp.isnan(jax.jit(f)(wrong, LABELS))
    assert jnp.isfinite(f(PROBS.astype(jnp.bfloat16), LABELS))


@pytest.mark.parametrize("name", OF_LOG_PROBS)
def test_probabilities_in_place_of_log_probabilities(name):
    f = OF_LOG_PROBS[name]
    for wrong in (PROBS, jnp.eye(2), jnp.array([[-0.5, 3.0], [1.0, -1.0]])):
        with pytest.raises(ValueError, match=r"takes log-probabilities.*log_softmax"):
            f(wrong)
        assert jnp.isnan(jax.jit(f)(wrong)).any()
    assert not jnp.isnan(f(jnp.log(PROBS).astype(jnp.bfloat16))).any()
    # What a diverged network says is no mistake of who measures it.
    assert jnp.isnan(f(jnp.full((2, 2), jnp.nan))).all()


def test_log_probabilities_of_many_classes_in_half_precision_are_such():
    logits = 3 * jax.random.normal(jax.random.key(0), (20, 1000))
    log_probs = jax.nn.log_softmax(logits)
    half = metrics.entropy(log_probs.astype(jnp.bfloat16))
    np.testing.assert_allclose(half, metrics.entropy(log_probs), rtol=0.05)  # 8 bits of log p


@pytest.mark.parametrize("name", ["entropy", "model_average", "mutual_information"])
def test_a_class_of_probability_0_has_no_derivative(name):
    """Against the same network without that class."""

    def figure(logits, impossible=False):
        samples = jnp.stack([logits, logits**2 - 1])
        if impossible:
            samples = jnp.insert(samples, 1, -jnp.inf, axis=1)
        samples = jax.nn.log_softmax(samples)
        if name == "model_average":
            return metrics.model_average(samples)[0]
        if name == "entropy":
            return metrics.entropy(samples[0])
        return metrics.mutual_information(samples)

    at = jnp.array([0.3, -0.4, 1.0])
    for derivative in (jax.grad, jax.hessian):
        right = jax.jit(derivative(figure))(at)
        got = jax.jit(derivative(lambda at: figure(at, impossible=True)))(at)
        assert np.abs(right).max() > 0.01
        np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-6)


def test_impossible_classes_have_derivative_0_themselves():
    log_probs = jnp.log(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    for f in (metrics.mutual_information, lambda p: metrics.entropy(p).sum()):
        assert (jax.grad(f)(log_probs)[:, 2] == 0).all()
    slope = jax.jacrev(metrics.model_average)(log_probs)
    assert np.isfinite(slope).all() and (slope[2] == 0).all()
    assert metrics.model_average(log_probs)[2] == -jnp.inf
    assert not np.signbit(metrics.entropy(jnp.array([0.0]))).any()


def test_ten_million_examples_lose_no_digits():
    probs = jnp.broadcast_to(jnp.array([0.7, 0.3]), (10_000_000, 2))
    labels = jnp.zeros(10_000_000, jnp.int8)

    @jax.jit
    def figures(probs, labels):
        return (
            metrics.ece(probs, labels),
            metrics.nll(jnp.log(probs), labels),
            metrics.brier(probs, labels),
            metrics.error(probs, labels + (jnp.arange(len(labels)) % 10 == 0).astype(jnp.int8)),
            metrics.rmse(probs[:, 0], probs[:, 1]),
        )

    right = (0.3, -np.log(0.7), 0.18, 0.1, 0.4)
    np.testing.assert_allclose(figures(probs, labels), right, rtol=3e-6)


@pytest.mark.parametrize("where", ["positive", "negative"])
def test_auroc_of_what_is_not_a_number(where):
    positive, negative = jnp.array([2.0, 1.0, 3.0]), jnp.array([0.5, 1.5])
    assert metrics.auroc(positive, negative) == 5 / 6
    if where == "positive":
        positive = positive.at[1].set(jnp.nan)
    else:
        negative = negative.at[0].set(jnp.nan)
    assert jnp.isnan(metrics.auroc(positive, negative))


@pytest.mark.parametrize(
    "mean, variance", [(jnp.nan, 1.0), (0.0, -1.0), (0.0, jnp.nan)], ids=["mean", "negative", "nan"]
)
def test_coverage_of_what_is_no_gaussian(mean, variance):
    arrays = jnp.array([0.0, mean]), jnp.array([1.0, variance]), jnp.zeros(2)
    with pytest.raises(ValueError, match="variance at least 0; got the mean"):
        metrics.coverage(*arrays)
    assert jnp.isnan(jax.jit(metrics.coverage)(*arrays))
    assert jnp.isnan(metrics.coverage(jnp.zeros(2), jnp.ones(2), jnp.array([0.0, jnp.nan])))
