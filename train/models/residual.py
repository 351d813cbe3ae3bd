"""Residual networks of [B] Table 1: pre-activation ResNets, ResNet-18, wide ResNets.

`train.models.resnet` has the network of [A], whose places are nodes; these have none (`cg.lift`
makes nodes of their activations), any normalisation, or none.
"""

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from train.models.parts import Images, Parts, pooled


class Branch(nnx.Module):
    """The side chain of a block: convolutions, each after a normalisation and ReLU but the first,
    before which the block does that."""

    def __init__(self, widths: Sequence[int], sides: Sequence[int], stride: int, parts: Parts):
        # The stride is that of the first convolution of side 3.
        at = sides.index(3)
        strides = [stride if k == at else 1 for k in range(len(sides))]
        self.convolutions = nnx.List(
            parts.convolution(widths[k], widths[k + 1], side, strides[k])
            for k, side in enumerate(sides)
        )
        self.norms = nnx.List(parts.normalisation(width) for width in widths[1:-1])

    def __call__(self, h: Images) -> Images:
        h = self.convolutions[0](h)
        for norm, convolution in zip(self.norms, list(self.convolutions)[1:], strict=True):
            h = convolution(jax.nn.relu(norm(h)))
        return h


class PreActivationBlock(nnx.Module):
    """shortcut + scale branch(relu(norm(x))); a 1 x 1 convolution as shortcut begins at
    relu(norm(x)), one without parameters at x."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, pad: bool, branches: int, branch: Branch,
        parts: Parts,
    ):  # fmt: skip
        self.norm = parts.normalisation(inputs)
        self.branch = branch
        self.scale = parts.branch(branches)
        same = stride == 1 and inputs == outputs
        self.project = None if same or pad else parts.convolution(inputs, outputs, 1, stride)
        self.stride = stride
        self.channels = (outputs - inputs) // 2, (outputs - inputs + 1) // 2

    def __call__(self, x: Images) -> Images:
        h = jax.nn.relu(self.norm(x))
        if self.project is not None:
            return self.project(h) + self.scale(self.branch(h))
        step = self.stride
        kept = x[:, ::step, ::step] if step > 1 else x
        if any(self.channels):
            kept = jnp.pad(kept, ((0, 0), (0, 0), (0, 0), self.channels))
        return kept + self.scale(self.branch(h))


class PreActivationResNet(nnx.Module):
    """A pre-activation residual network for small images (He et al. 2016, arXiv 1603.05027).

    A 3 x 3 convolution, stages of blocks, each but the first of half the rows and columns of the
    one before, a last normalisation and ReLU, the average over positions, and an affine layer.

    Args:
        blocks: the number of blocks of each stage.
        widths: of each stage, the channels of its 3 x 3 convolutions.
        first: the channels of the first convolution.
        bottleneck: whether a block is a 1 x 1, a 3 x 3 and a 1 x 1 convolution, the last of four
            times as many channels; otherwise it is two of 3 x 3.
        shortcut: of blocks whose ends differ: a 1 x 1 convolution ("project"), or every second row
            and column, and channels of zeros ("pad").
        last: whether a normalisation and ReLU follow the last block.
        parts: what it is made of.

    Raises:
        ValueError: no block; another shortcut or normalisation; with "pad", fewer channels than
            before.
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        *,
        first: int = 16,
        bottleneck: bool = False,
        shortcut: Literal["project", "pad"] = "project",
        last: bool = True,
        parts: Parts,
    ):
        if len(blocks) != len(widths) or not blocks or min(blocks) < 1:
            raise ValueError(
                f"expected at least one block for each width, got {tuple(blocks)} blocks and "
                f"widths {tuple(widths)}."
            )
        if shortcut not in ("project", "pad"):
            raise ValueError(f"shortcut is 'project' or 'pad', got {shortcut!r}.")
        parts = parts.checked("batch")
        self.first = parts.convolution(parts.channels, first, 3)
        made, inputs = [], first
        for stage, (number, width) in enumerate(zip(blocks, widths, strict=True)):
            outputs = 4 * width if bottleneck else width
            if shortcut == "pad" and outputs < inputs:
                raise ValueError(f"channels can be padded, not removed: got {outputs} of {inputs}.")
            for block in range(number):
                stride = 2 if stage and not block else 1
                inner = (inputs, width, width, outputs) if bottleneck else (inputs, width, width)
                branch = Branch(inner, (1, 3, 1) if bottleneck else (3, 3), stride, parts)
                made.append(
                    PreActivationBlock(
                        inputs, outputs, stride, shortcut == "pad", sum(blocks), branch, parts
                    )
                )
                inputs = outputs
        self.blocks = nnx.List(made)
        self.norm = parts.normalisation(inputs) if last else None
        self.output = parts.logits(inputs)

    def __call__(self, x: Images) -> Float[Array, "batch classes"]:
        """The logits."""
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        if self.norm is not None:
            x = jax.nn.relu(self.norm(x))
        return self.output(pooled(x))


class PostActivationBlock(nnx.Module):
    """relu(shortcut(x) + scale norm(branch(x))), as in He et al. 2015 (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int, branches: int, parts: Parts):
        self.branch = Branch((inputs, outputs, outputs), (3, 3), stride, parts)
        self.norm = parts.normalisation(outputs)
        self.scale = parts.branch(branches)
        same = stride == 1 and inputs == outputs
        self.project = None if same else parts.convolution(inputs, outputs, 1, stride)
        self.project_norm = None if same else parts.normalisation(outputs)

    def __call__(self, x: Images) -> Images:
        kept = x
        if self.project is not None and self.project_norm is not None:
            kept = self.project_norm(self.project(x))
        return jax.nn.relu(kept + self.scale(self.norm(self.branch(x))))


class ResNet18(nnx.Module):
    """ResNet-18 for small images: a 3 x 3 convolution of 64 channels in place of the 7 x 7 one and
    the pooling, four stages of two blocks.

    Args:
        width: the channels of the first stage; each stage has twice those of the one before.
        parts: what it is made of.
    """

    def __init__(
        self,
        *,
        width: int = 64,
        parts: Parts,
    ):
        parts = parts.checked("batch")
        self.first = parts.convolution(parts.channels, width, 3)
        self.norm = parts.normalisation(width)
        made, inputs = [], width
        for outputs in (width, 2 * width, 4 * width, 8 * width):
            stride = 1 if outputs == width else 2
            made.append(PostActivationBlock(inputs, outputs, stride, 8, parts))
            made.append(PostActivationBlock(outputs, outputs, 1, 8, parts))
            inputs = outputs
        self.blocks = nnx.List(made)
        self.output = parts.logits(inputs)

    def __call__(self, x: Images) -> Float[Array, "batch classes"]:
        """The logits."""
        x = jax.nn.relu(self.norm(self.first(x)))
        for block in self.blocks:
            x = block(x)
        return self.output(pooled(x))


def wide_resnet(depth: int, k: int, *, parts: Parts) -> PreActivationResNet:
    """WRN-`depth`-`k` (Zagoruyko and Komodakis 2016, arXiv 1605.07146): (depth - 4) / 6 blocks in
    each of three stages, k times as wide as 16, 32 and 64.

    Args:
        depth, k: of its name.
        parts: what it is made of.

    Raises:
        ValueError: the depth is not 4 more than a multiple of 6.
    """
    blocks, left = divmod(depth - 4, 6)
    if left or blocks < 1:
        raise ValueError(f"The depth of a wide ResNet is 6 n + 4, n at least 1, got {depth}.")
    return PreActivationResNet([blocks] * 3, [16 * k, 32 * k, 64 * k], parts=parts)
