"""What a classification predicts."""

import jax
import numpy as np
import pytest
from scipy import special

pytest.importorskip("sklearn")

from tests.estimators.tables import SMALL, classifier, forward, labels, table

X, _ = table()
Y = labels(X)


@pytest.fixture(scope="module")
def moments():
    return classifier().fit(X, Y)


def test_labels_are_strings_and_probabilities_sum_to_one(moments):
    assert moments.classes_.tolist() == ["no", "yes"]
    probabilities = moments.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-12)
    assert np.array_equal(moments.predict(X), moments.classes_[probabilities.argmax(1)])
    np.testing.assert_allclose(np.exp(moments.predict_log_proba(X)), probabilities, rtol=1e-12)
    x, _ = table(1000, seed=1)
    assert moments.score(x, labels(x)) > 0.9


def test_probabilities_are_those_of_the_posterior():
    """A linear network's logits are Gaussian: their softmax is averaged over draws."""
    model = classifier(hidden=()).fit(X, Y)
    z = (X - X.mean(0)) / X.std(0)
    (layer,) = model.weights_["weights"]
    random = np.random.default_rng(0)

    def draws(weights):
        deviation = np.exp(np.asarray(weights.log_variance, float) / 2)
        return weights.mean + deviation * random.normal(size=(4000, *deviation.shape))

    logits = z @ draws(layer["kernel"]) + draws(layer["bias"])[:, None]
    expected = special.softmax(logits, -1).mean(0)
    # The approximation of the expected softmax is off by less than 0.02; draws by 0.01.
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=0.03)


def test_an_ensemble_averages_the_probabilities_of_its_members():
    model = classifier(method="ensemble", members=2).fit(X, Y)
    z = (X - X.mean(0)) / X.std(0)
    members = [jax.tree.map(lambda a, m=m: a[m], model.weights_["weights"]) for m in range(2)]
    expected = np.mean([special.softmax(forward(each, z), -1) for each in members], 0)
    np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-5)


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="y has 1 class, 'yes', and a classifier needs at least 2"):
        classifier().fit(X, np.full(len(X), "yes"))


def test_few_rows():
    """Below ten rows none is held out."""
    model = classifier().fit(X[:6], np.array(list("aabbab")))
    assert model.n_iter_ == SMALL["max_epochs"]
