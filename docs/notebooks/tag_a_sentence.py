# %% [markdown]
# # Tag a sentence
#
# Names of people and places in sentences, by a network whose last component is a *linear chain*:
# one random variable that holds all tags of a sentence, also called a CRF. The page of the same
# name among the tutorials explains each step; this one looks at what comes out.

# %%
import random

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from flax import nnx

import cgjax as cg

TEMPLATES = [
    "[PER] lives in [LOC] .",
    "[PER] met [PER] near [LOC] .",
    "we drove to [LOC] with [PER] .",
    "in [LOC] , [PER] called home .",
    "[LOC] is far from [LOC] .",
    "yesterday [PER] saw the sea at [LOC] .",
]
NAMES = {  # "Rose", "Lind" and "Hill" stand in both
    "PER": "Mara|Mara Lind|Tom Rose|Iva|Ben Hill|Rose Lind|Rose|Tom Lind Hill".split("|"),
    "LOC": "Port Rose|Lind|Hill End|Sund|Rose|Port Lind|Rose Hill|Sund End".split("|"),
}
TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
LONGEST = 12


def sentence(source):
    """Words, and the number of the tag of each."""
    words, tags = [], []
    for part in source.choice(TEMPLATES).split():
        kind = part.strip("[]")
        name = source.choice(NAMES[kind]).split() if kind in NAMES else [part]
        words += name
        first = TAGS.index(f"B-{kind}") if kind in NAMES else 0
        tags += [first] + [first + 1] * (len(name) - 1)
    return words, tags


source = random.Random(0)
corpus = [sentence(source) for _ in range(200)]
numbers = {word: k for k, word in enumerate(sorted({w for words, _ in corpus for w in words}), 2)}


def padded(values):
    return values + [0] * (LONGEST - len(values))


def encoded(words):
    return padded([numbers.get(word, 1) for word in words])


words = jnp.array([encoded(words) for words, _ in corpus])
lengths = jnp.array([len(words) for words, _ in corpus])
tags = jax.nn.one_hot(jnp.array([padded(tags) for _, tags in corpus]), len(TAGS))
train, test = slice(0, 60), slice(60, 200)

# %% [markdown]
# ## The network
#
# Embeddings of a word and its neighbours, a hidden layer, and the chain. What the tagging scheme
# forbids has probability 0 from the first step on.


# %%
class Encoder(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(len(numbers) + 2, 8, rngs=rngs)
        self.hidden = nnx.Linear(3 * 8, 32, rngs=rngs)

    def __call__(self, words):
        x = jnp.pad(self.embed(words), ((0, 0), (1, 1), (0, 0)))
        return nnx.relu(self.hidden(jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], -1)))


chain = cg.layers.LinearChain(
    32, len(TAGS), forbidden=cg.nodes.bio_transitions(TAGS), name="tags", rngs=nnx.Rngs(1)
)
encode, encoder_params, encoder_state = cg.functional(Encoder(nnx.Rngs(0)))
tag, chain_params, chain_state = cg.functional(chain)


def network(params, words, lengths):
    features = cg.lift(encode)(params["encoder"], encoder_state, words)[0]
    return tag(params["chain"], chain_state, features, lengths=lengths)[0]


def collapsed(params, words, lengths):
    features = encode(params["encoder"], encoder_state, words)[0]
    return tag(params["chain"], chain_state, features, lengths=lengths)[0]


# %% alt="The chain graph: words, a component of ReLU nodes, and tags that touch in a chain."
params = {"encoder": encoder_params, "chain": chain_params}
cg.chain_graph(lambda words: network(params, words, lengths[:1]))(words[:1])

# %% [markdown]
# ## Training
#
# The loss is the log-probability of all tags of all sentences, `cg.log_joint`.

# %%
optimiser = optax.adam(0.02)


def loss(params, part):
    each = cg.log_joint(collapsed, batch_axes=0)
    return -each({"tags": tags[part]}, params, words[part], lengths[part]) / len(words[part])


def step(carry, _):
    params, state = carry
    value, gradient = jax.value_and_grad(loss)(params, train)
    update, state = optimiser.update(gradient, state)
    return (optax.apply_updates(params, update), state), (value, loss(params, test))


run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), None, 60))
(trained, _), (losses, test_losses) = run(params)

# %% alt="Nats a sentence while training, for training and test sentences."
figure, axes = plt.subplots(figsize=(7.2, 2.6))
for name, values, side in (
    ("60 training sentences", losses, "right"),
    ("test", test_losses, "left"),
):
    (line,) = axes.semilogy(values)
    place = {"xytext": (-8, -14) if side == "right" else (0, 8), "textcoords": "offset points"}
    axes.annotate(name, (40, values[40]), color=line.get_color(), ha=side, **place)
axes.set(title="Surprise about the tags of a sentence", xlabel="step", ylabel="nats")

# %% [markdown]
# ## How sure is it?
#
# Marginals of each tag at each word, and the most probable path (`cg.mode`). "Rose Hill" was
# shown as a place only; here it meets somebody, and the network hesitates between two readings of
# the whole.

# %% alt="A heat map of tag probabilities for each word of a sentence, with the best path."
asked = "Rose Hill met Rose and Mara Lind near Port Rose .".split()
one, its_length = jnp.array([encoded(asked)]), jnp.array([len(asked)])
marginals = np.asarray(jax.jit(collapsed)(trained, one, its_length))[0, : len(asked)]
best = np.argmax(cg.mode(collapsed)(trained, one, its_length)[0], -1)[: len(asked)]
figure, axes = plt.subplots(figsize=(8.4, 2.8))
axes.imshow(marginals.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
axes.plot(best, color="#D55E00", lw=1.2, marker="o", ms=4)
for (column, row), probability in np.ndenumerate(marginals):
    if 0.005 <= probability < 0.995:
        colour = "white" if probability > 0.5 else "#333333"
        text = f"{probability:.2f}"
        axes.text(column, row + 0.34, text, ha="center", va="center", fontsize=8, color=colour)
axes.set_xticks(range(len(asked)), asked)
axes.set_yticks(range(len(TAGS)), TAGS)
axes.set_title("Probability of each tag; the orange line is the best path")
axes.spines[:].set_visible(False)
axes.tick_params(length=0)

# %% [markdown]
# ## A tag that is known
#
# Somebody says that the first word begins a place. `cg.clamp` with `PartlyKnown` conditions the
# chain on it, and all other tags follow:

# %% alt="The same heat map after the first word is known to begin a place."
known = cg.PartlyKnown(
    jnp.zeros((1, LONGEST, len(TAGS))).at[0, 0, TAGS.index("B-LOC")].set(1.0),
    jnp.zeros((1, LONGEST), bool).at[0, 0].set(True),
)
told = cg.clamp(collapsed, {"tags": known})
corrected = np.asarray(jax.jit(told)(trained, one, its_length))[0, : len(asked)]
figure, axes = plt.subplots(2, 1, figsize=(8.4, 3.6), sharex=True)
for side, values, title in (
    (axes[0], marginals, "Before"),
    (axes[1], corrected, "The first word begins a place"),
):
    side.imshow(values.T, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    side.set_yticks(range(len(TAGS)), TAGS, fontsize=8)
    side.set_title(title)
    side.spines[:].set_visible(False)
    side.tick_params(length=0)
axes[1].set_xticks(range(len(asked)), asked)

# %% [markdown]
# Where to go from here: [the tutorial](../tutorials/tag_a_sentence.md), [components whose nodes
# touch](../touching.md), and [real sentences](../tagging.md).
