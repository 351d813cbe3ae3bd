"""EfficientNet-B0 (Tan and Le 2019, arXiv 1905.11946), of [B] Table 1, and its form for 32 x 32."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
from flax import nnx
from jaxtyping import Array, Float

from train.models.parts import Images, Parts, pooled


class Stage(NamedTuple):
    """Blocks of one kind: how many times as wide they are inside, the side of their depthwise
    kernels, the stride of the first one, their channels, and their number."""

    expansion: int
    side: int
    stride: int
    channels: int
    blocks: int


B0 = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)


class SqueezeExcite(nnx.Module):
    """Each channel times a gate, a function of the averages of all channels over positions.

    Gates are about 1/2 at first. Where nothing is normalised they are doubled.
    """

    def __init__(self, channels: int, inner: int, parts: Parts):
        self.squeeze = nnx.Linear(channels, inner, rngs=parts.rngs)
        self.excite = nnx.Linear(inner, channels, rngs=parts.rngs)
        self.factor = 2.0 if parts.norm == "none" else 1.0

    def __call__(self, x: Images) -> Images:
        gate = jax.nn.sigmoid(self.excite(jax.nn.silu(self.squeeze(pooled(x)))))
        gate = self.factor * gate if self.factor != 1 else gate
        return x * gate[:, None, None, :].astype(x.dtype)


class InvertedBottleneck(nnx.Module):
    """A wider inside ("MBConv"): a 1 x 1 convolution, a depthwise one, squeeze and excitation, a
    1 x 1 convolution to the channels of the stage; plus its input where the shapes agree."""

    def __init__(
        self,
        inputs: int,
        stage: Stage,
        stride: int,
        expand: bool,
        branches: int,
        parts: Parts,
    ):
        wide = stage.expansion * inputs
        self.expand = parts.convolution(inputs, wide, 1) if expand else None
        self.expand_norm = parts.normalisation(wide) if expand else None
        self.depthwise = parts.convolution(wide, wide, stage.side, stride, groups=wide)
        self.depthwise_norm = parts.normalisation(wide)
        self.gates = SqueezeExcite(wide, max(1, inputs // 4), parts)
        self.project = parts.convolution(wide, stage.channels, 1)
        self.project_norm = parts.normalisation(stage.channels)
        self.residual = stride == 1 and inputs == stage.channels
        self.scale = parts.branch(branches) if self.residual else None

    def __call__(self, x: Images) -> Images:
        h = x
        if self.expand is not None and self.expand_norm is not None:
            h = jax.nn.silu(self.expand_norm(self.expand(h)))
        h = self.gates(jax.nn.silu(self.depthwise_norm(self.depthwise(h))))
        h = self.project_norm(self.project(h))
        return h if self.scale is None else x + self.scale(h)


class EfficientNet(nnx.Module):
    """EfficientNet-B0, without the noise (dropout, stochastic depth) that it is usually trained by.

    Args:
        stages: of blocks.
        first, head: the channels of the first convolution, and of the 1 x 1 convolution before the
            average over positions; no head: the average follows the last stage.
        first_stride: of the first convolution.
        expand_all: whether blocks that are no wider inside have the first 1 x 1 convolution, too.
        parts: what it is made of.

    Raises:
        ValueError: no stage; another normalisation.
    """

    def __init__(
        self,
        stages: Sequence[Stage] = B0,
        *,
        first: int = 32,
        head: int | None = 1280,
        first_stride: int = 2,
        expand_all: bool = False,
        parts: Parts,
    ):
        if not stages:
            raise ValueError("An EfficientNet has at least one stage, got none.")
        parts = parts.checked("batch")
        branches = sum(stage.blocks for stage in stages)
        self.first = parts.convolution(parts.channels, first, 3, first_stride)
        self.first_norm = parts.normalisation(first)
        made, width = [], first
        for stage in stages:
            for block in range(stage.blocks):
                stride, expand = 1 if block else stage.stride, expand_all or stage.expansion > 1
                made.append(InvertedBottleneck(width, stage, stride, expand, branches, parts))
                width = stage.channels
        self.blocks = nnx.List(made)
        self.head = parts.convolution(width, head, 1) if head else None
        self.head_norm = parts.normalisation(head) if head else None
        self.output = parts.logits(head or width)

    def __call__(self, x: Images) -> Float[Array, "batch classes"]:
        """The logits."""
        x = jax.nn.silu(self.first_norm(self.first(x)))
        for block in self.blocks:
            x = block(x)
        if self.head is not None and self.head_norm is not None:
            x = jax.nn.silu(self.head_norm(self.head(x)))
        return self.output(pooled(x))


def for_small_images(*, parts: Parts) -> EfficientNet:
    """EfficientNet-B0 for 32 x 32 pixels: the first and second convolution at stride 1, no head.

    The first block has a 1 x 1 convolution of ratio 1. The usual code for CIFAR-10 counts it among
    the 3,599,686 parameters, too, but leaves it out of the computation; parameters that nothing
    depends on would still count in a divergence from the prior.

    Args:
        parts: what it is made of.
    """
    stages = [B0[0], B0[1]._replace(stride=1), *B0[2:]]
    return EfficientNet(stages, head=None, first_stride=1, expand_all=True, parts=parts)
