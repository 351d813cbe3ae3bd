"""Residual networks on CIFAR-10: no regularisation, dropout, PCFF ([A] 5.1, Figure 4 right).

    python -m train.resnet --dropout .1 .2 .3 .4 .5 .6 .7 .8 .9 --pcff .1 .2 .3 .4 .5 .6 .7 .8 .9 1
    python -m train.resnet --length 25 --images 9000  # a tenth of the schedule, a fifth of the data
    python -m train.resnet --form products --dtype bfloat16   # see docs/sweeps.md

ResNet20 of refinement modules with the authors' 3 x 3 shortcuts (292,762 parameters), or the usual
one (`--shortcut pad`, 269,722). Trained on the first 45,000 images, with random flips and crops;
SGD 0.1 with momentum 0.9, batches of 128, 250 epochs; the rate is divided by ten after 100, 150 and
200, the weight decay of 1e-4 (of all parameters) after 151 and 201. The weights of the lowest
validation error are tested once. A shorter `--length` shortens all of this in proportion, except
that the decay still falls one epoch after the rate.

**Claims** of the paper (its figure gives no numbers): PCFF improves on none over a wide range of
rates, best at 0.3; dropout helps only at 0.1, and large rates hurt badly. For comparison: 8.27 %
errors of the code that the authors' is derived from, 8.75 % of He et al., both for the usual
network without regularisation, trained on all 50,000 images.

**Cost**: 87,750 updates a run. On two CPU cores a run takes days: use a GPU, or a shorter schedule.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from train.data import Dataset, augmentation
from train.engine import sweep
from train.models.convolution import convolved, products
from train.models.resnet import ResNet
from train.resnet.settings import Config, Dtype, Form, Shortcut

SIDE, PADDING = 32, 4
# Of ImageNet, which the authors took for CIFAR-10 too.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def experiment(config: Config, dataset: Dataset) -> sweep.Experiment:
    """What is compared, on CIFAR-10."""
    shape = Shape(config.shortcut, config.blocks, config.channels, config.form, config.dtype)
    return sweep.Experiment(
        title="residual networks on CIFAR-10",
        source="[A] 5.1, Figure 4 right",
        settings=config,
        recipe=config.recipe,
        dataset=sweep.first(dataset, config.images),
        networks={"": network(shape)},
        learner_of=lambda net, known: sweep.learner(net, standardised, known, augment=augmented),
        prepare=standardised,
    )


main = functools.partial(sweep.run, experiment)


class Shape(NamedTuple):
    """What a network is built from."""

    shortcut: Shortcut
    blocks: int  # of each stage
    channels: int  # of the first stage
    form: Form = "convolution"
    dtype: Dtype = "float32"  # in training


@functools.lru_cache
def network(shape: Shape) -> sweep.Network:
    """The network as functions."""

    def build(dtype: Any, rngs: nnx.Rngs) -> ResNet:
        return ResNet(
            blocks=shape.blocks,
            widths=(shape.channels, 2 * shape.channels, 4 * shape.channels),
            shortcut=shape.shortcut,
            convolution={"convolution": convolved, "products": products}[shape.form],
            dtype=dtype,
            rngs=rngs,
        )

    evaluated = functools.partial(build, None)
    if shape.dtype == "float32":
        return sweep.network(evaluated)
    # Running averages would be rounded to 16 bits.
    return sweep.network(functools.partial(build, jnp.dtype(shape.dtype)), evaluated)


def standardised(x: Float[Array, "n features"]) -> Float[Array, "n rows columns channels"]:
    """Images of pixels in [0, 1], with the mean and the deviation of ImageNet's."""
    mean, deviation = (jnp.asarray(each, x.dtype)[None, None, None] for each in (MEAN, DEVIATION))
    return (x.reshape(-1, SIDE, SIDE, len(MEAN)) - mean) / deviation


def augmented(
    key: Any, x: Float[Array, "n rows columns channels"]
) -> Float[Array, "n rows columns channels"]:
    """Random flips, then random crops of standardised images padded by four black pixels on each
    side, of each image on its own."""
    flip, crop = jax.random.split(key)
    black = -jnp.asarray(MEAN, x.dtype) / jnp.asarray(DEVIATION, x.dtype)
    x = augmentation.flipped(flip, x)
    return augmentation.cropped(crop, x, PADDING, black[None, None, None])
