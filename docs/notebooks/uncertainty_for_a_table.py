# %% [markdown]
# # Uncertainty for a table
#
# Rows of numbers, a target, and the question how sure a prediction is. Each weight of an ordinary
# network gets a mean and a variance; both are trained without sampling, and a prediction is a
# mean with a standard deviation. The table is scikit-learn's "diabetes": ten measurements of 442
# patients, and the progress of their disease one year later.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx
from scipy.stats import norm
from sklearn.datasets import load_diabetes

import cgjax as cg
from cgjax import weights

table = load_diabetes(scaled=False)
order = np.random.default_rng(0).permutation(len(table.target))
train, test = order[:330], order[330:]

# Inputs and targets are scaled by what the training rows say.
location, spread = table.data[train].mean(0), table.data[train].std(0)
middle, unit = table.target[train].mean(), table.target[train].std()
x = jnp.asarray((table.data - location) / spread, jnp.float32)
y = jnp.asarray((table.target - middle) / unit, jnp.float32)

# %% [markdown]
# ## A network, and weights that are uncertain


# %%
class Net(nnx.Module):
    def __init__(self, rngs):
        self.hidden = nnx.Linear(10, 50, rngs=rngs)
        self.output = nnx.Linear(50, 1, rngs=rngs)

    def __call__(self, x):
        return self.output(nnx.relu(self.hidden(x)))[..., 0]


f, params, state = cg.functional(Net(nnx.Rngs(0)))
predict = weights.deterministic(f)
start = {"weights": weights.mean_field(params, variance=1e-3), "log_noise": jnp.float32(-1.0)}
STEPS = 1500
optimiser = optax.adam(optax.cosine_decay_schedule(0.01, STEPS))


def loss(parameters, share):
    output, _ = predict(None, parameters["weights"], state, x[train])
    head = weights.GaussianHead(parameters["log_noise"])
    terms = weights.elbo(head, output, y[train], parameters["weights"], prior=1.0)
    return terms.per_example(len(train), temperature=share)


def step(carry, number):
    parameters, opt_state = carry
    share = jnp.minimum(1, (number + 1) / (0.9 * STEPS))
    gradient = jax.grad(loss)(parameters, share)
    update, opt_state = optimiser.update(gradient, opt_state, parameters)
    return (optax.apply_updates(parameters, update), opt_state), None


run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), jnp.arange(STEPS))[0][0])
trained = run(start)

# %% [markdown]
# ## Predictions with intervals
#
# The variance of a prediction is that of the weights plus that of the noise, which was learnt
# too.

# %% alt="Test rows by predicted value, with 90 % intervals; most measured values lie inside."
output, _ = predict(None, trained["weights"], state, x[test])
noise = jnp.exp(trained["log_noise"])
mean = np.asarray(output.mean) * unit + middle
deviation = np.sqrt(np.asarray(output.variance + noise)) * unit
half = norm.ppf(0.95) * deviation
target = table.target[test]
inside = np.abs(target - mean) <= half
by_mean = np.argsort(mean)
figure, axes = plt.subplots(figsize=(8.4, 3.4))
rows = np.arange(len(test))
axes.fill_between(
    rows, (mean - half)[by_mean], (mean + half)[by_mean], color="#0072B2", alpha=0.15, lw=0
)
axes.plot(rows, mean[by_mean], color="#0072B2", lw=1.2)
hit = inside[by_mean]
axes.scatter(rows[hit], target[by_mean][hit], s=9, color="#444444")
axes.scatter(rows[~hit], target[by_mean][~hit], s=26, color="#D55E00", marker="x")
axes.text(len(test), mean.max(), "mean", color="#0072B2", va="center")
axes.text(len(test), (mean + half).max(), "90 % interval", color="#0072B2", alpha=0.7)
axes.set(
    title=f"{inside.mean():.0%} of {len(test)} patients lie in the 90 % interval (x: outside)",
    xlabel="patients, by predicted progress",
    ylabel="progress of the disease",
    xlim=(0, len(test) * 1.12),
    xticks=range(0, 101, 20),
)

# %% [markdown]
# ## Are the intervals right?
#
# Of intervals at every level, the share of test rows inside should be the level:

# %% alt="Observed against asked coverage, close to the diagonal."
levels = np.linspace(0.05, 0.95, 19)
half_widths = norm.ppf(0.5 + levels / 2)[:, None] * deviation
observed = (np.abs(target - mean) <= half_widths).mean(1)
error = 2 * np.sqrt(levels * (1 - levels) / len(test))
figure, axes = plt.subplots(figsize=(4.6, 3.8))
axes.fill_between(levels, levels - error, levels + error, color="#bbbbbb", alpha=0.4, lw=0)
axes.plot([0, 1], [0, 1], color="#888888", lw=0.9, ls=(0, (4, 3)))
axes.plot(levels, observed, marker="o", ms=3.5)
axes.text(0.52, 0.28, "grey: two standard errors\nof what is right", fontsize=8, color="#555555")
axes.set(
    title="Intervals hold what they promise",
    xlabel="asked",
    ylabel="observed",
    xlim=(0, 1),
    ylim=(0, 1),
)

# %%
log_density = norm.logpdf(target, mean, deviation).mean()
constant = norm.logpdf(target, middle, unit).mean()
print(
    f"log density per patient: {log_density:.2f}; of the training mean and deviation {constant:.2f}"
)
print(f"root of the mean squared error: {np.sqrt(((target - mean) ** 2).mean()):.1f} of {unit:.1f}")

# %% [markdown]
# ## Where does it know less?
#
# One measurement is moved beyond what was seen, all others stay at their means. The deviation
# that is due to the weights grows where there are no patients:

# %% alt="Prediction and interval against body mass index; wider beyond the patients seen."
grid = np.linspace(10, 60, 101)
column = table.feature_names.index("bmi")
moved = np.zeros((len(grid), 10), np.float32)
moved[:, column] = (grid - location[column]) / spread[column]
output, _ = predict(None, trained["weights"], state, jnp.asarray(moved))
at, known = np.asarray(output.mean) * unit + middle, np.sqrt(np.asarray(output.variance)) * unit
total = np.sqrt(np.asarray(output.variance + noise)) * unit
figure, axes = plt.subplots(figsize=(7.2, 3.4))
axes.fill_between(grid, at - 2 * total, at + 2 * total, color="#0072B2", alpha=0.12, lw=0)
axes.fill_between(grid, at - 2 * known, at + 2 * known, color="#0072B2", alpha=0.3, lw=0)
axes.plot(grid, at, color="#0072B2")
ticks = np.full(len(train), (at - 2 * total).min())
axes.plot(table.data[train, column], ticks, "|", color="#444444", alpha=0.4)
axes.text(60.5, (at + 2 * total)[-1], "with noise", color="#0072B2", alpha=0.7, va="center")
axes.text(60.5, (at + 2 * known)[-1], "weights alone", color="#0072B2", va="top")
axes.set(
    title="Beyond the patients seen (ticks), the weights are less certain",
    xlabel="body mass index",
    ylabel="progress",
    xlim=(10, 70),
    xticks=range(10, 61, 10),
)

# %% [markdown]
# Where to go from here: [uncertain weights](../weights.md), [make any Flax model
# Bayesian](../tutorials/bayesian_in_three_lines.md), and [nine tables of
# data](../results.md#regression).
