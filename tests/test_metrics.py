"""Metrics against hand computations, brute force and scikit-learn."""

import inspect
import math
from statistics import NormalDist

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from cgjax import metrics

pytestmark = pytest.mark.numerics

# Sums of about a thousand float32 numbers near 1: rounding stays below 1e-5.
FLOAT32 = 1e-5


def random_predictions(seed: int, n: int = 1000, classes: int = 7):
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(n, classes)) * 2
    probs = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.where(
        generator.random(n) < 0.5, probs.argmax(-1), generator.integers(0, classes, n)
    )
    return probs.astype(np.float32), labels.astype(np.int32)


def test_nll_is_the_mean_log_loss():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    probs, labels = random_predictions(1)
    exact = probs.astype(np.float64)
    exact /= exact.sum(-1, keepdims=True)  # scikit-learn warns of rows that sum to 1 + 1e-7
    expected = sklearn_metrics.log_loss(labels, exact, labels=range(7))
    np.testing.assert_allclose(metrics.nll(np.log(probs), labels), expected, rtol=FLOAT32)


def test_nll_of_an_impossible_label_is_infinite():
    log_probs = jnp.array([[0.0, -jnp.inf]])
    assert metrics.nll(log_probs, jnp.array([1])) == jnp.inf
    assert metrics.nll(log_probs, jnp.array([0])) == 0


@pytest.mark.parametrize("label", [-1, -2, 2])
def test_a_label_that_is_no_class_has_no_likelihood(label):
    scores, labels = jnp.log(jnp.array([[0.5, 0.5], [0.1, 0.9]])), jnp.array([0, label])
    assert jnp.isnan(metrics.nll(scores, labels))
    assert jnp.isnan(metrics.error(scores, labels))


def test_error_counts_by_hand():
    scores = jnp.array([[1.0, 2.0, 0.0], [5.0, 2.0, 0.0], [0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    assert metrics.error(scores, jnp.array([1, 1, 0, 2])) == 0.25


def test_error_counts_what_is_not_a_number_as_wrong():
    assert metrics.error(jnp.full((2, 3), jnp.nan), jnp.array([0, 0])) == 1


def test_brier_matches_its_definition_and_sklearn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    probs, labels = random_predictions(2)
    one_hot = np.eye(7)[labels]
    expected = ((probs.astype(np.float64) - one_hot) ** 2).sum(-1).mean()
    np.testing.assert_allclose(metrics.brier(probs, labels), expected, rtol=FLOAT32)
    p = probs[:, 0].astype(np.float64)
    two = np.stack([1 - p, p], -1).astype(np.float32)
    binary = (labels == 0).astype(np.int32)
    expected = 2 * sklearn_metrics.brier_score_loss(binary, p)
    np.testing.assert_allclose(metrics.brier(two, binary), expected, rtol=FLOAT32)


def brute_force_ece(probs, labels, num_bins):
    confidence, right = probs.max(-1).astype(np.float64), probs.argmax(-1) == labels
    total = 0.0
    for b in range(num_bins):
        inside = (confidence > b / num_bins) & (confidence <= (b + 1) / num_bins)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_ece_matches_brute_force(num_bins):
    probs, labels = random_predictions(3)
    expected = brute_force_ece(probs, labels, num_bins)
    np.testing.assert_allclose(metrics.ece(probs, labels, num_bins), expected, atol=FLOAT32)


def test_ece_by_hand_and_at_the_edges():
    # Bins (0, .5] and (.5, 1]: .5 lies in the first, where the gap is |1/2 - (.5 + .5)/2| = 0;
    # the second holds .9 (right) and 1.0 (wrong): |1/2 - .95| = .45, weight 1/2.
    probs = jnp.array([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    labels = jnp.array([0, 1, 0, 1])
    np.testing.assert_allclose(metrics.ece(probs, labels, 2), 0.225, rtol=1e-6)
    assert metrics.ece(jnp.array([[1.0, 0.0]]), jnp.array([0])) == 0


def test_a_calibrated_model_has_a_small_ece():
    # Labels drawn from the predictions: each of 15 bins of n_b examples is off by at most
    # 5 standard errors sqrt(p (1 - p) / n_b) <= .5 / sqrt(n_b); the weighted sum is at most
    # 5 * .5 * sqrt(15 / n) by Cauchy-Schwarz.
    key_scores, key_labels = jax.random.split(jax.random.key(0))
    logits = 2 * jax.random.normal(key_scores, (20_000, 4))
    labels = jax.random.categorical(key_labels, logits)
    assert metrics.ece(jax.nn.softmax(logits), labels) < 5 * 0.5 * math.sqrt(15 / 20_000)


def test_rmse_by_hand():
    assert metrics.rmse(jnp.array([[0.0, 3.0], [4.0, 0.0]]), jnp.zeros((2, 2))) == 2.5


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_coverage_of_the_true_model_is_its_level(level):
    n = 20_000
    mean, scale = jnp.linspace(-3, 3, n), jnp.linspace(0.1, 5, n)
    targets = mean + scale * jax.random.normal(jax.random.key(1), (n,))
    found = metrics.coverage(mean, scale**2, targets, level)
    assert abs(found - level) < 5 * math.sqrt(level * (1 - level) / n)


def test_coverage_at_the_edge_of_the_interval():
    z = NormalDist().inv_cdf(0.975)
    targets = jnp.array([z - 1e-4, z + 1e-4, -z + 1e-4, -z - 1e-4])
    assert metrics.coverage(jnp.zeros(4), jnp.ones(4), targets) == 0.5


# Small integers, so that ties are common; few lengths, as every new pair of them compiles anew.
SCORES = st.one_of(*(st.lists(st.integers(-3, 3), min_size=n, max_size=n) for n in (1, 2, 20)))


@hypothesis.settings(max_examples=25)
@hypothesis.given(SCORES, SCORES)
def test_auroc_counts_pairs(positive, negative):
    pairs = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    found = metrics.auroc(np.array(positive, np.float32), np.array(negative, np.float32))
    np.testing.assert_allclose(found, np.mean(pairs), rtol=FLOAT32)


def test_auroc_matches_sklearn():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(0)
    positive = generator.normal(0.7, 1, 700).round(1).astype(np.float32)
    negative = generator.normal(0, 1, 1300).round(1).astype(np.float32)
    truth = np.r_[np.ones(700), np.zeros(1300)]
    expected = sklearn_metrics.roc_auc_score(truth, np.r_[positive, negative])
    np.testing.assert_allclose(metrics.auroc(positive, negative), expected, rtol=FLOAT32)


def calls():
    probs, labels = (jnp.asarray(a) for a in random_predictions(4, n=50))
    values = jnp.linspace(0.1, 1, 50)
    return {
        "nll": (metrics.nll, (jnp.log(probs), labels)),
        "error": (metrics.error, (probs, labels)),
        "ece": (metrics.ece, (probs, labels)),
        "brier": (metrics.brier, (probs, labels)),
        "rmse": (metrics.rmse, (values, values**2)),
        "coverage": (metrics.coverage, (values, values, values**2)),
        "auroc": (metrics.auroc, (values, values**2)),
    }


@pytest.mark.parametrize("name", calls())
def test_every_metric_is_a_float32_scalar_under_jit_and_vmap(name):
    function, arguments = calls()[name]
    eager = function(*arguments)
    assert eager.shape == () and eager.dtype == jnp.float32
    # Sums may be ordered differently when compiled.
    np.testing.assert_allclose(jax.jit(function)(*arguments), eager, rtol=FLOAT32)
    both = jax.tree.map(lambda a: jnp.stack([a, a[::-1]]), arguments)
    second = jax.tree.map(lambda a: a[::-1], arguments)
    np.testing.assert_allclose(
        jax.vmap(function)(*both), [eager, function(*second)], rtol=FLOAT32, atol=FLOAT32
    )


@pytest.mark.parametrize("name", ["nll", "error", "ece", "brier"])
def test_bfloat16_scores_are_averaged_in_float32(name):
    function, (scores, labels) = calls()[name]
    assert function(scores.astype(jnp.bfloat16), labels).dtype == jnp.float32


def test_more_leading_axes_change_nothing():
    probs, labels = random_predictions(5, n=60)
    for function in (metrics.error, metrics.ece, metrics.brier):
        np.testing.assert_allclose(
            function(probs.reshape(3, 20, 7), labels.reshape(3, 20)),
            function(probs, labels),
            rtol=FLOAT32,
        )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.nll(jnp.zeros((3, 2)), jnp.zeros(2, int)), r"\(3, 2\).*\(2,\)"),
        (lambda: metrics.error(jnp.zeros((0, 2)), jnp.zeros(0, int)), "no examples"),
        (lambda: metrics.ece(jnp.ones((3, 2)), jnp.zeros(3, int), 0), "num_bins is 0"),
        (lambda: metrics.rmse(jnp.zeros(3), jnp.zeros(2)), r"\(3,\) and \(2,\)"),
        (lambda: metrics.coverage(jnp.zeros(1), jnp.ones(1), jnp.zeros(1), 1.5), "level is 1.5"),
        (lambda: metrics.auroc(jnp.zeros(0), jnp.zeros(2)), "positive_scores"),
    ],
)
def test_static_mistakes_raise(call, message):
    # The test run's own shape checker may speak first.
    with pytest.raises(Exception, match=f"{message}|[Tt]ype-check"):
        call()


def test_entropy_and_averages_of_samples():
    stats = pytest.importorskip("scipy.stats")
    probs = np.stack([random_predictions(seed, 50)[0] for seed in range(6)])
    average = metrics.model_average(np.log(probs))
    np.testing.assert_allclose(np.exp(average), probs.mean(0), rtol=FLOAT32)
    np.testing.assert_allclose(np.exp(average).sum(-1), 1, rtol=FLOAT32)
    exact = probs.astype(np.float64)
    total = stats.entropy(exact.mean(0), axis=-1)
    np.testing.assert_allclose(metrics.entropy(average), total, rtol=FLOAT32)
    # The average divergence of the samples from their average is the same information.
    apart = stats.entropy(exact, exact.mean(0)[None], axis=-1).mean(0)
    np.testing.assert_allclose(metrics.mutual_information(np.log(probs)), apart, atol=FLOAT32)
    agreeing = np.log(np.broadcast_to(probs[:1], probs.shape))
    np.testing.assert_allclose(metrics.mutual_information(agreeing), 0, atol=FLOAT32)


def test_impossible_classes_have_no_entropy():
    certain = jnp.array([[0.0, -jnp.inf]])
    assert metrics.entropy(certain) == 0
    np.testing.assert_allclose(metrics.mutual_information(certain[None]), 0)
    with pytest.raises(ValueError, match="samples, "):
        inspect.unwrap(metrics.mutual_information)(jnp.zeros(3))


def test_gaussian_mixture_nll_matches_scipy():
    stats = pytest.importorskip("scipy.stats")
    generator = np.random.default_rng(7)
    mean, variance = generator.normal(size=(4, 6, 5)), generator.uniform(0.1, 3, (4, 6, 5))
    targets = generator.normal(size=(6, 5))
    expected = -np.log(stats.norm.pdf(targets, mean, np.sqrt(variance)).mean(0))
    got = metrics.gaussian_mixture_nll(*(np.float32(array) for array in (mean, variance, targets)))
    assert got.shape == (6, 5)
    np.testing.assert_allclose(got, expected, rtol=FLOAT32, atol=FLOAT32)


def test_gaussian_mixture_nll_far_from_every_component_is_finite():
    # By hand: the nearer component alone counts, (1000 - 1)^2 / 2 + log(2 pi) / 2 + log(2).
    got = metrics.gaussian_mixture_nll(jnp.array([0.0, 1.0]), jnp.ones(2), jnp.array(1000.0))
    np.testing.assert_allclose(got, 999**2 / 2 + 0.5 * math.log(2 * math.pi) + math.log(2))


@pytest.mark.parametrize("mean, targets", [((0, 3), 3), ((2, 3), 4), ((), ())])
def test_gaussian_mixture_nll_names_shapes_that_do_not_fit(mean, targets):
    # Without the type checks of the tests, which would come first.
    plain = inspect.unwrap(metrics.gaussian_mixture_nll)
    with pytest.raises(ValueError, match="at least one component"):
        plain(jnp.ones(mean), jnp.ones(mean), jnp.ones(targets))
