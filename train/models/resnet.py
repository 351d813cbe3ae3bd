"""ResNet20 for images of 32 x 32 pixels, of refinement modules ([A] sections 4.1 and 5.1).

Every place of batch normalisation and ReLU is one component of nodes: 19 in ResNet20.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

import cgjax as cg
from train.models.convolution import convolved
from train.models.dense import affine, dropped

Images = Float[Array, "batch rows columns channels"]
Map = Callable[[Any], Any]


class _Options(NamedTuple):
    """What all parts of a network are built with."""

    convolution: Callable[..., Array]
    dtype: Any
    rngs: nnx.Rngs


class Convolution(nnx.Module):
    """A 3 x 3 convolution without bias, of PyTorch's default initialisation: weights are
    U(-1/sqrt(n), 1/sqrt(n)) for n = 9 `inputs`."""

    def __init__(self, inputs: int, outputs: int, stride: int, options: _Options):
        bound = (9 * inputs) ** -0.5
        key, shape = options.rngs.params(), (3, 3, inputs, outputs)
        self.kernel = nnx.Param(jax.random.uniform(key, shape, minval=-bound, maxval=bound))
        self.stride = stride
        self.convolution = options.convolution
        self.dtype = options.dtype

    def __call__(self, x: Images) -> Images:
        kernel = self.kernel[...]
        if self.dtype is not None:
            x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        return self.convolution(x, kernel, self.stride)


class Place(nnx.Module):
    """Batch normalisation, ReLU nodes, and dropout where a rate is given."""

    def __init__(self, width: int, name: str, options: _Options):
        # PyTorch's momentum of 0.1 is 0.9 in Flax's convention.
        normalise = nnx.BatchNorm(
            width, momentum=0.9, epsilon=1e-5, dtype=options.dtype, rngs=options.rngs
        )
        self.node = cg.layers.Node(cg.nodes.ReLU(), normalise, name=name)
        self.name = name

    def __call__(self, e: Images, drop_rate: Any) -> Images:
        return dropped(self.node(e), drop_rate, f"{self.name}_dropout")


class Side(nnx.Module):
    """A block's side chain: nodes, convolution, nodes, convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, name: str, options: _Options):
        self.before = Place(inputs, f"{name}_before", options)
        self.first = Convolution(inputs, outputs, stride, options)
        self.between = Place(outputs, f"{name}_between", options)
        self.second = Convolution(outputs, outputs, 1, options)

    def refine(self, h: Images, drop_rate: Any) -> Images:
        """What follows the first nodes."""
        return self.second(self.between(self.first(h), drop_rate))


class Identity(nnx.Module):
    """A block whose shortcut is the identity: a refinement of all that lies below."""

    def __init__(self, width: int, name: str, options: _Options):
        self.side = Side(width, width, 1, name, options)

    def after(self, base: Map, drop_rate: Any) -> Map:
        """The network with this block on top of `base`, as all blocks have it; both give natural
        parameters."""
        return cg.layers.Refinement(
            base,
            functools.partial(self.side.refine, drop_rate=drop_rate),
            node=functools.partial(self.side.before, drop_rate=drop_rate),
            # As in the authors' code: one forward pass, whose activations both paths read.
            samples="shared",
        )


class Refined(nnx.Module):
    """The block that begins a stage of the authors' network, at stride 2: the nodes that end the
    stage below, and a refinement of a convolution, whose copy has weights of its own. It has three
    convolutions, where the usual block has two."""

    def __init__(self, inputs: int, outputs: int, name: str, options: _Options):
        self.before = Place(inputs, f"{name}_before", options)
        self.base = Convolution(inputs, outputs, 2, options)
        self.copy = Convolution(inputs, outputs, 2, options)
        self.between = Place(outputs, f"{name}_between", options)
        self.second = Convolution(outputs, outputs, 1, options)

    def after(self, base: Map, drop_rate: Any) -> Map:
        node = functools.partial(self.between, drop_rate=drop_rate)
        refinement = cg.layers.Refinement(self.base, self.second, copy=self.copy, node=node)
        return lambda x: refinement(self.before(base(x), drop_rate))


class Padded(nnx.Module):
    """The block that begins a stage of the usual network, at stride 2.

    Its shortcut leaves out every second row and column and fills new channels with zeros ("option
    A"): a fixed connection. It is no refinement, whose two ends have one shape.
    """

    def __init__(self, inputs: int, outputs: int, name: str, options: _Options):
        self.side = Side(inputs, outputs, 2, name, options)
        self.channels = (outputs - inputs) // 2, (outputs - inputs + 1) // 2

    def after(self, base: Map, drop_rate: Any) -> Map:
        def natural_parameter(x: Images) -> Images:
            e = base(x)
            refined = self.side.refine(self.side.before(e, drop_rate), drop_rate)
            return jnp.pad(e[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), self.channels)) + refined

        return natural_parameter


class ResNet(nnx.Module):
    """A pre-activation residual network; by default that of the authors of [A].

    A convolution, stages of blocks, each of half the rows and columns of the one before, batch
    normalisation and ReLU nodes, the average over positions, and an affine layer. With three blocks
    a stage it has 19 components of ReLU nodes (and as many of dropout, if asked for), 292,762
    parameters and 42.91 million multiply-adds for an image of 32 x 32 pixels; with
    `shortcut="pad"` it is the usual ResNet20, of 269,722 parameters and 40.55 million.

    Weights are initialised as PyTorch does by default, U(-1/sqrt(n), 1/sqrt(n)) for n inputs. Batch
    statistics are running averages of momentum 0.9; those of the variance are of the batch's own
    variance, where PyTorch takes n/(n-1) of it.

    Args:
        blocks, widths: the number of blocks of each stage; the channels of each.
        shortcut: of the block that begins a stage but the first: "convolution", 3 x 3 at stride 2,
            as in the authors' code; or "pad", without parameters.
        channels, classes: of an image; the number of logits.
        convolution: computes the 3 x 3 convolutions.
        dtype: of the convolutions and of the nodes; none: that of the images and parameters. It is
            for training: with a dtype of 16 bits, evaluation by running averages would round those.
            The parameters, the batch statistics and the last layer are of 32 bits in any case.

    Raises:
        ValueError: for another shortcut, no block, no width, or, with "pad", a width smaller than
            the one before.
    """

    def __init__(
        self,
        *,
        blocks: int = 3,
        widths: Sequence[int] = (16, 32, 64),
        shortcut: Literal["convolution", "pad"] = "convolution",
        channels: int = 3,
        classes: int = 10,
        convolution: Callable[[Array, Array, int], Array] = convolved,
        dtype: Any = None,
        rngs: nnx.Rngs,
    ):
        begin = {"convolution": Refined, "pad": Padded}
        if shortcut not in begin:
            raise ValueError(f"shortcut is one of {', '.join(begin)}, got {shortcut!r}.")
        if blocks < 1 or not widths:
            raise ValueError(f"expected a block and a width, got {blocks} and {tuple(widths)}.")
        if shortcut == "pad" and list(widths) != sorted(widths):
            raise ValueError(f"channels can be padded, not removed: got widths {tuple(widths)}.")
        options = _Options(convolution, dtype, rngs)
        self.first = Convolution(channels, widths[0], 1, options)
        parts: list[Identity | Refined | Padded] = []
        for stage, width in enumerate(widths, 1):
            names = [f"stage_{stage}_block_{block}" for block in range(1, blocks + 1)]
            if stage > 1:
                parts.append(begin[shortcut](widths[stage - 2], width, names.pop(0), options))
            parts += [Identity(width, name, options) for name in names]
        self.blocks = nnx.List(parts)
        self.last = Place(widths[-1], "last", options)
        self.output = affine(widths[-1], classes, rngs)

    def __call__(self, x: Images, drop_rate: Any = None) -> Float[Array, "batch classes"]:
        """The logits of images that the caller has standardised. The drop rate, a number or a
        traced value, is the probability that a node is dropped on its way to the next layer, one
        for all places; `None`: the network has no noise nodes."""
        network: Map = self.first
        for block in self.blocks:
            network = block.after(network, drop_rate)
        h = self.last(network(x), drop_rate)
        # The sum over positions in at least 32 bits.
        pooled = h.mean((1, 2), dtype=jnp.promote_types(h.dtype, jnp.float32))
        return self.output(pooled)
