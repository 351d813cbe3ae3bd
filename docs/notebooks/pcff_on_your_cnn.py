# %% [markdown]
# # PCFF on your CNN
#
# You have a convolutional network in Flax and a training loop. `cg.lift` finds its activations
# and makes random variables of them; `cg.pcff` samples some of these while you train. Nothing in
# the model changes.

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax
from flax import nnx
from sklearn.datasets import load_digits

import cgjax as cg
from cgjax import metrics


class CNN(nnx.Module):
    """Knows nothing of cgjax."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.second = nnx.Conv(8, 16, (3, 3), strides=(2, 2), rngs=rngs)
        self.dense = nnx.Linear(4 * 4 * 16, 64, rngs=rngs)
        self.output = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.first(x))
        x = nnx.relu(self.second(x))
        x = nnx.relu(self.dense(x.reshape(len(x), -1)))
        return self.output(x)


digits = load_digits()
images = jnp.asarray(digits.images[..., None] / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 200), slice(200, 800)  # few images, so that regularisation matters

# %% [markdown]
# ## What was lifted
#
# The chain graph of the lifted network: three components, named after the modules that compute
# their natural parameters.

# %% alt="The chain graph of the network: an input, three components of ReLU nodes, the result."
f, params, state = cg.functional(CNN(nnx.Rngs(0)))
lifted = cg.lift(f)
cg.chain_graph(cg.lift(CNN(nnx.Rngs(0))))(images[:1])

# %% [markdown]
# ## One loop for both
#
# The rate is an argument: 0 is the network as it was, 1 samples every node. So both trainings,
# each with three seeds, are one program, compiled once.

# %%
optimiser = optax.adam(2e-3)
RATES, SEEDS, STEPS = jnp.array([0.0, 1.0]), 3, 240


def fit(rate, seed):
    key = jax.random.key(seed)

    def step(carry, number):
        params, opt_state = carry
        of_rows, of_nodes = jax.random.split(jax.random.fold_in(key, number))
        rows = jax.random.choice(of_rows, 200, (32,))

        def loss(params):
            logits, _ = cg.pcff(lifted, rate)(of_nodes, params, state, images[rows])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels[rows]).mean()

        update, opt_state = optimiser.update(jax.grad(loss)(params), opt_state)
        params = optax.apply_updates(params, update)
        return (params, opt_state), None

    def part(carry, numbers):
        carry, _ = jax.lax.scan(step, carry, numbers)
        return carry, jax.nn.log_softmax(f(carry[0], state, images[test])[0])

    numbers = jnp.arange(STEPS).reshape(-1, 20)
    (fitted, _), log_probs = jax.lax.scan(part, (params, optimiser.init(params)), numbers)
    return fitted, log_probs  # (parts, test images, classes)


@jax.jit
def all_fits():
    seeds = jnp.arange(SEEDS)
    return jax.lax.map(lambda rate: jax.lax.map(lambda seed: fit(rate, seed), seeds), RATES)


fitted, log_probs = all_fits()

# %% [markdown]
# ## What it did
#
# The negative log-likelihood of test images says how sure the network is of its mistakes.
# Prediction is the plain network in both cases.

# %% alt="Test NLL and test error while training, of the plain network and with PCFF."
answers = labels[test]
nll = jax.vmap(jax.vmap(jax.vmap(lambda p: metrics.nll(p, answers))))(log_probs)
error = jax.vmap(jax.vmap(jax.vmap(lambda p: metrics.error(p, answers))))(log_probs)
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.2))
steps = jnp.arange(20, STEPS + 1, 20)
names, colours = ("plain", "PCFF"), ("#D55E00", "#0072B2")
for side, values, what in ((axes[0], nll, "NLL, nats"), (axes[1], 100 * error, "error, %")):
    for name, colour, runs in zip(names, colours, values, strict=True):
        side.plot(steps, runs.T, color=colour, lw=0.8, alpha=0.5)
        side.plot(steps, runs.mean(0), color=colour)
        beside = {"xytext": (4, -4), "textcoords": "offset points"}
        side.annotate(name, (STEPS, runs.mean(0)[-1]), color=colour, **beside)
    side.set(title=f"Test {what}", xlabel="step", xlim=(0, 1.2 * STEPS), ylim=(0, None))
axes[0].set_ylim(0, 1.5)
axes[1].set_ylim(0, 30)

# %% [markdown]
# Under noise training takes longer. Three seeds of a small network show how to compare, not which
# is better: what PCFF does on the paper's tasks, with many seeds, is on the [results
# page](../results.md).
#
# ## Averaging samples
#
# A network trained with PCFF can also be sampled when it predicts. The mean over samples is a
# prediction that knows more of what it does not know.


# %%
def probabilities(key, params):
    return jax.nn.softmax(cg.pcff(lifted, 1.0)(key, params, state, images[test])[0])


average = jax.jit(cg.monte_carlo(probabilities, num_samples=32))
trained = [jax.tree.map(lambda a, k=k: a[1, k], fitted) for k in range(SEEDS)]
averaged = [average(jax.random.key(9), params).mean for params in trained]
table = [
    ("plain", error[0, :, -1], nll[0, :, -1]),
    ("PCFF", error[1, :, -1], nll[1, :, -1]),
    (
        "PCFF, averaged",
        jnp.stack([metrics.error(p, answers) for p in averaged]),
        jnp.stack([metrics.nll(jnp.log(p), answers) for p in averaged]),
    ),
]
for name, of_errors, of_nll in table:
    print(f"{name:15} error {of_errors.mean():.1%}  NLL {of_nll.mean():.3f}  ({SEEDS} seeds)")

# %% alt="Six test digits and the mean of sampled predictions for each class."
least = jnp.argsort(averaged[0].max(-1))[:6]
figure, axes = plt.subplots(2, 6, figsize=(8.4, 2.9), height_ratios=(1.2, 1))
for (above, below), row in zip(axes.T, least, strict=True):
    above.imshow(1 - images[test][row, ..., 0], cmap="gray")
    above.set_axis_off()
    above.set_title(f"a {answers[row]}", loc="center")
    bars = ["#0072B2" if k == answers[row] else "#b8b8b8" for k in range(10)]
    below.bar(range(10), averaged[0][row], color=bars)
    below.set(xticks=range(0, 10, 3), ylim=(0, 1), yticks=(0, 1))
axes[1, 0].set_ylabel("probability")
figure.suptitle("Digits that it is least sure of; blue is the right one", fontsize=11, x=0.3)

# %% [markdown]
# What PCFF does on the paper's tasks, with many seeds, is on the [results page](../results.md).
# Your own model: [add PCFF in one line](../tutorials/pcff_in_one_line.md); which activations are
# found and why others are not: [lift](../procedures/lift.md).
