"""What a regression predicts: against NumPy, SciPy, new rows of the same law, other units."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import stats

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError

from cgjax.estimators import Network
from tests.estimators.tables import forward, regressor, table

X, Y = table()


@pytest.fixture(scope="module")
def moments():
    return regressor().fit(X, Y)


@pytest.fixture(scope="module")
def linear():
    """Without a hidden layer the moments are those of a sum."""
    return regressor(hidden=(), noise="homoscedastic").fit(X, Y)


@pytest.fixture(scope="module")
def ensemble():
    return regressor(method="ensemble", members=2).fit(X, Y)


def test_linear_moments_are_those_of_a_sum(linear):
    z = (X - X.mean(0)) / X.std(0)
    (layer,) = linear.weights_["weights"]
    kernel, bias = layer["kernel"], layer["bias"]
    mean = z @ np.asarray(kernel.mean, float) + np.asarray(bias.mean)
    variance = z**2 @ np.exp(np.asarray(kernel.log_variance, float))
    variance = variance + np.exp(bias.log_variance) + np.exp(linear.weights_["level"])
    found, deviation = linear.predict(X, return_std=True)
    # float32 within.
    np.testing.assert_allclose(found, Y.mean() + Y.std() * mean[:, 0], rtol=1e-5)
    np.testing.assert_allclose(deviation, Y.std() * variance[:, 0] ** 0.5, rtol=1e-5)


def test_linear_fit_is_near_least_squares(linear):
    design = np.c_[X, np.ones(len(X))]
    solution, *_ = np.linalg.lstsq(design, Y, rcond=None)
    # The prior draws weights to 0 by a few percent of 60 rows; the noise's deviation is 5.
    np.testing.assert_allclose(linear.predict(X), design @ solution, atol=1.5)
    deviation = linear.predict(X, return_std=True)[1].mean()
    assert 4 < deviation < 7


def test_intervals_and_densities_are_those_of_a_gaussian(moments):
    mean, deviation = moments.predict(X, return_std=True)
    expected: Any = stats.norm(mean, deviation)
    low, high = moments.predict_interval(X, 0.8)
    np.testing.assert_allclose(low, expected.ppf(0.1), rtol=1e-10)
    np.testing.assert_allclose(high, expected.ppf(0.9), rtol=1e-10)
    np.testing.assert_allclose(moments.log_prob(X, Y), expected.logpdf(Y), rtol=1e-10)


def test_new_rows_are_within_intervals_as_often_as_is_said(moments):
    x, y = table(4000, seed=1)
    low, high = moments.predict_interval(x, 0.9)
    # 60 rows determine the noise's deviation within a tenth (one standard error), and the mean
    # within 2: from 0.80 to 0.96 of rows is within two of these.
    assert 0.80 < np.mean((low <= y) & (y <= high)) < 0.97
    assert moments.score(x, y) > 0.85


def test_units_do_not_matter(moments):
    """By powers of two the scaled rows are the same to the last bit."""
    other = regressor().fit(X * 2.0**20, Y * 2.0**-30)
    mean, deviation = moments.predict(X, return_std=True)
    found = other.predict(X * 2.0**20, return_std=True)
    np.testing.assert_array_equal(found, [mean * 2.0**-30, deviation * 2.0**-30])


def test_an_ensemble_is_the_mixture_of_its_members(ensemble):
    z = (X - X.mean(0)) / X.std(0)
    means, variances = [], []
    for member in range(2):
        trained = jax.tree.map(lambda a, m=member: a[m], ensemble.weights_)
        out = forward(trained["weights"], z)
        means.append(Y.mean() + Y.std() * out[:, 0])
        variances.append(Y.var() * (np.exp(out[:, 1] + trained["level"][0]) + 1e-6))
    mean, deviation = ensemble.predict(X, return_std=True)
    np.testing.assert_allclose(mean, np.mean(means, 0), rtol=1e-5)
    total = np.mean(variances, 0) + np.var(means, 0)
    np.testing.assert_allclose(deviation, total**0.5, rtol=1e-4)
    assert np.abs(means[0] - means[1]).max() > 1e-3  # they began differently


def test_draws_of_weights_have_the_moments_of_the_posterior():
    sampling = regressor(hidden=(), method="sampling", samples=400, noise="homoscedastic").fit(X, Y)
    z = (X - X.mean(0)) / X.std(0)
    (layer,) = sampling.weights_["weights"]
    variance = z**2 @ np.exp(np.asarray(layer["kernel"].log_variance, float))
    variance = (variance + np.exp(layer["bias"].log_variance))[:, 0] * Y.var()
    mean = z @ np.asarray(layer["kernel"].mean, float) + np.asarray(layer["bias"].mean)
    found = sampling.predict(X)
    # Five standard errors of 400 draws, which all rows share.
    error = np.abs(found - Y.mean() - Y.std() * mean[:, 0])
    assert np.all(error < 5 * (variance / 400) ** 0.5)
    assert np.array_equal(found, sampling.predict(X))


def test_several_targets(moments):
    both = np.c_[Y, -3 * Y + 1]
    model = regressor().fit(X, both)
    mean, deviation = model.predict(X, return_std=True)
    low, high = model.predict_interval(X)
    assert mean.shape == deviation.shape == low.shape == high.shape == both.shape
    assert model.score(X, both) > 0.8
    expected = stats.norm.logpdf(both, mean, deviation).sum(1)
    np.testing.assert_allclose(model.log_prob(X, both), expected, rtol=1e-9)
    with pytest.raises(ValueError, match=r"y has shape \(60,\); expected \(60, 2\)"):
        model.log_prob(X, Y)


def test_seeds_are_explicit(moments):
    again = regressor().fit(X, Y)
    assert np.array_equal(again.predict(X), moments.predict(X)) and again.seed_ == 0
    other = regressor(random_state=1).fit(X, Y)
    assert not np.array_equal(other.predict(X), moments.predict(X))
    drawn = regressor(random_state=np.random.RandomState(3)).fit(X, Y)
    assert drawn.seed_ == np.random.RandomState(3).randint(2**31 - 1)


def test_a_constant_feature_is_ignored():
    fixed = np.c_[X[:, 0], np.full(len(X), 0.1)]
    model = regressor().fit(fixed, Y)
    assert model.constant_features_.tolist() == [1]
    moved = np.c_[X[:, 0], np.full(len(X), 1e9)]
    assert np.array_equal(model.predict(moved), model.predict(fixed))


def test_a_constant_target_is_predicted():
    model = regressor().fit(X, np.full(len(X), 7.0))
    mean, deviation = model.predict(X, return_std=True)
    np.testing.assert_allclose(mean, 7.0, atol=0.2)
    assert deviation.max() < 0.3


def test_what_cannot_be_learnt_is_said(moments):
    missing = X.copy()
    missing[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        regressor().fit(missing, Y)
    with pytest.raises(ValueError, match="contains NaN"):
        moments.predict(missing)
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        regressor().fit(X[:1], Y[:1])
    far = X.copy()
    far[5, 1] = 1e30
    with pytest.raises(ValueError, match="the entry 1e[+]30 in row 5, column 1"):
        moments.predict(far)
    with pytest.raises(ValueError, match="level is between 0 and 1"):
        moments.predict_interval(X, 90)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "bayes"}, "method is one of moments, sampling, ensemble; got 'bayes'"),
        ({"noise": "none"}, "noise is one of heteroscedastic"),
        ({"hidden": 50}, "hidden is a tuple"),
        ({"hidden": (0,)}, "hidden is a tuple"),
        ({"first_noise": ()}, "first_noise is a number or a tuple"),
        ({"prior": (1.0, 0.0)}, "prior is a positive number or a tuple"),
        ({"learning_rate": 0.0}, "learning_rate is positive"),
        ({"validation_fraction": 1.0}, "validation_fraction is between 0 and 1"),
        ({"batch_size": 0}, "batch_size is a whole number from 1 or None"),
        ({"max_epochs": 1.5}, "max_epochs is a whole number from 1 or None"),
        ({"members": None}, "members is a whole number from 1, got None"),
        ({"learning_rate": 1e30}, "training diverged"),
        ({"network": lambda features, outputs, rngs: nnx.Linear(2, 3, rngs=rngs)}, r"\(3, 3\)"),
        ({"network": nnx.Linear(5, 2, rngs=nnx.Rngs(0))}, "does not take rows of 2 features"),
        ({"network": nnx.Linear(2, 1, rngs=nnx.Rngs(0))}, "two outputs for each target"),
        (
            {"network": nnx.Linear(2, 2, rngs=nnx.Rngs(0)), "method": "ensemble"},
            "begin with different weights",
        ),
        ({"network": "mlp"}, "got str"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        regressor(**options).fit(X, Y)


class Net(nnx.Module):
    def __init__(self, features, outputs, *, rngs):
        self.hidden = nnx.Linear(features, 8, rngs=rngs)
        self.output = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(x)))


class Normalised(Net):
    def __init__(self, features, outputs, *, rngs):
        super().__init__(features, outputs, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.norm(self.hidden(x))))


def plain(params, x):
    return jnp.tanh(x @ params["first"]) @ params["second"]


def initial(key, features, outputs):
    return {
        "first": jax.random.normal(key, (features, 8)) / features**0.5,
        "second": jnp.zeros((8, outputs)),
    }


@pytest.mark.filterwarnings("ignore")  # Flax's own, about ranks
@pytest.mark.parametrize(
    "network, method",
    [
        (Net, "ensemble"),
        (Net(2, 2, rngs=nnx.Rngs(1)), "moments"),
        (Network(initial, plain), "moments"),
    ],
    ids=["class", "module", "functions"],
)
def test_own_networks(network, method):
    with jax.numpy_rank_promotion("allow"):
        model = regressor(network, method=method, members=2).fit(X, Y)
        assert model.score(X, Y) > 0.7


def test_a_network_that_changes_its_variables_is_refused():
    with (
        jax.numpy_rank_promotion("allow"),
        pytest.raises(ValueError, match="changes its own variables"),
    ):
        regressor(Normalised).fit(X, Y)


def test_progress_is_told_on_the_standard_error(capsys):
    regressor(max_epochs=2, progress=True).fit(X, Y)
    told = capsys.readouterr()
    assert told.out == "" and "all rows, epoch 2 of 2" in told.err


def test_after_a_fit_that_fails_nothing_is_predicted():
    """Neither at first, nor by older weights in the units of new rows."""
    model = regressor(learning_rate=1e30)
    for _ in range(2):
        with pytest.raises(ValueError, match="training diverged"):
            model.fit(X, Y)
        with pytest.raises(NotFittedError):
            model.predict(X)
        model.weights_ = {}  # as if an earlier fit had succeeded
