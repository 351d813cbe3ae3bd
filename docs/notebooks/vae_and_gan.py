# %% [markdown]
# # VAE and GAN are one graph
#
# A variational autoencoder and a generative adversarial network make data in the same way:
# Gaussian variables z, and a network that leads from z to x. They differ in what x is given z, a
# random variable or a function, and in the second network that helps them to learn: a guide, or a
# critic. Neither of the two helpers is part of the model ([C]).

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import optax

import cgjax as cg

WIDTH, BATCH = 32, 256


def dense(key, below, above):
    return {"w": jax.random.normal(key, (below, above)) / below**0.5, "b": jnp.zeros(above)}


def mlp(layers, x):
    for layer in layers[:-1]:
        x = jnp.tanh(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def layers(seed, *sizes):
    keys = jax.random.split(jax.random.key(seed), len(sizes) - 1)
    return [dense(*args) for args in zip(keys, sizes, sizes[1:], strict=False)]


# %% [markdown]
# ## The same model twice
#
# `decoder` is one function of z for both. The VAE's x is a node, Gaussian around it, so that it
# has a density: a *prescribed* model. The GAN's x is the value itself: an *implicit* model.


# %%
def latent():
    return cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")


def vae(p):
    mean = mlp(p["decoder"], latent())
    return cg.node(cg.nodes.Gaussian(jnp.exp(p["log_scale"])), mean, name="x")


def gan(p):
    return mlp(p["decoder"], latent())


p_vae = {
    "decoder": layers(0, 2, WIDTH, WIDTH, 2),
    "encoder": layers(1, 2, WIDTH, 4),
    "log_scale": jnp.array(-1.0),
}
p_gan = {"decoder": layers(0, 2, WIDTH, WIDTH, 2), "critic": layers(2, 2, WIDTH, WIDTH, 1)}

# %% alt="The graph of the VAE: z, then x."
cg.chain_graph(lambda: vae(p_vae))()

# %% alt="The graph of the GAN: z, then a result that is a function of it."
cg.chain_graph(lambda: gan(p_gan))()

# %% [markdown]
# Two graphs that differ in one place: whether the result is a node. `ChainGraph.implicit` lists
# the results without a density:

# %%
print("VAE:", [r.name for r in cg.chain_graph(lambda: vae(p_vae))().implicit])
print("GAN:", [r.name for r in cg.chain_graph(lambda: gan(p_gan))().implicit])

# %% [markdown]
# ## Two helpers
#
# The *guide* proposes z for an x; with it `cg.elbo` bounds the log-likelihood of the VAE. The
# *critic* tells real from generated; with it `cg.adversarial` bounds a divergence. Both bounds
# are functions, and are trained by the same loop.


# %%
def guide(observed, p):
    mean, log_scale = jnp.split(mlp(p["encoder"], observed["x"]), 2)
    return cg.node(cg.nodes.Gaussian(jnp.exp(log_scale)), mean, name="z")


def critic(x, p):
    return cg.node(cg.nodes.Bernoulli(), mlp(p["critic"], x)[0], name="real")


def data(key, number):
    """A ring with a gap."""
    of_angles, of_noise = jax.random.split(key)
    angles = jax.random.uniform(of_angles, (number,), minval=0.5, maxval=5.8)
    ring = jnp.stack([jnp.cos(angles), jnp.sin(angles)], -1)
    return 1.5 * ring + 0.08 * jax.random.normal(of_noise, (number, 2))


def vae_loss(p, key, x):
    each = jax.vmap(cg.elbo(vae, guide), (0, 0, None))
    return -each(jax.random.split(key, len(x)), {"x": x}, p).value.mean()


def slope(p, x):
    """Half the squared slope of the critic at real examples, which keeps it smooth."""
    found = jax.vmap(jax.grad(lambda x: mlp(p["critic"], x)[0]))(x)
    return 0.5 * (found**2).sum(-1).mean()


def gan_loss(p, key, x):
    each = jax.vmap(cg.adversarial(gan, critic, "non_saturating"), (0, 0, None))
    losses = each(jax.random.split(key, len(x)), x, p)
    return (losses.critic + losses.generator).mean() + 0.3 * slope(p, x)


def trained(loss, p, optimiser, steps):
    def step(carry, key):
        p, state = carry
        of_data, of_nodes = jax.random.split(key)
        gradient = jax.grad(loss)(p, of_nodes, data(of_data, BATCH))
        update, state = optimiser.update(gradient, state)
        return (optax.apply_updates(p, update), state), None

    keys = jax.random.split(jax.random.key(3), steps)
    return jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), keys)[0][0])(p)


p_vae = trained(vae_loss, p_vae, optax.adam(3e-3), 3000)
p_gan = trained(gan_loss, p_gan, optax.adam(1e-3, b1=0.0, b2=0.99), 3000)

# %% [markdown]
# ## What they make
#
# `cg.forward_sample` generates from either.

# %% alt="Scatter plots: data on a ring with a gap, samples of the VAE, samples of the GAN."
keys = jax.random.split(jax.random.key(4), 800)
made_by_vae = jax.jit(jax.vmap(cg.forward_sample(vae), (0, None)))(keys, p_vae)
made_by_gan = jax.jit(jax.vmap(cg.forward_sample(gan), (0, None)))(keys, p_gan)
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), sharex=True, sharey=True)
for side, points, title, colour in (
    (axes[0], data(jax.random.key(5), 800), "Data", "#666666"),
    (axes[1], made_by_vae, "VAE: learnt by a guide", "#0072B2"),
    (axes[2], made_by_gan, "GAN: learnt by a critic", "#D55E00"),
):
    side.scatter(*points.T, s=5, color=colour, alpha=0.5, lw=0, rasterized=True)
    side.set(title=title, xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal")

# %% [markdown]
# ## What z means
#
# Both decoders map the plane of z onto the ring. Colour is the angle of z:

# %% alt="Where the VAE and the GAN put points of z, coloured by the angle of z."
z = jax.random.normal(jax.random.key(6), (1500, 2))
angle = jnp.arctan2(z[:, 1], z[:, 0])
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2))
axes[0].scatter(*z.T, c=angle, s=5, cmap="twilight_shifted", lw=0, rasterized=True)
axes[0].set(title="z, coloured by its angle", xlim=(-3.4, 3.4), ylim=(-3.4, 3.4), aspect="equal")
for side, p, title in ((axes[1], p_vae, "VAE: mean of x"), (axes[2], p_gan, "GAN: x")):
    side.scatter(
        *mlp(p["decoder"], z).T, c=angle, s=5, cmap="twilight_shifted", lw=0, rasterized=True
    )
    side.set(title=title, xlim=(-2.3, 2.3), ylim=(-2.3, 2.3), aspect="equal")

# %% [markdown]
# Where to go from here: [latent variables](../latent.md), which takes [C] statement by statement;
# [adversarial](../procedures/adversarial.md), with nine divergences; [a VAE in twenty
# lines](../tutorials/vae_in_twenty_lines.md).
