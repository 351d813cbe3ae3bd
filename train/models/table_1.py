"""The networks of [B] Table 1 by their names, with the usual ones of their kinds and small ones.

[B] does not say which ResNet and which Mixer it trained. What stands here are the networks of those
names whose published errors its first row repeats.
"""

from collections.abc import Callable
from functools import partial

from flax import nnx

from train.models.densenet import DenseNetBC
from train.models.efficientnet import EfficientNet, for_small_images
from train.models.mixer import Mixer
from train.models.parts import Parts
from train.models.residual import PreActivationResNet, ResNet18, wide_resnet

EIGHTEEN = ((2, 2, 2, 2), (64, 128, 256, 512))
THREE = (16, 32, 64)

# Each takes `parts`; the first one is for images of 8 x 8 pixels.
NETWORKS: dict[str, Callable[..., nnx.Module]] = {
    "tiny": partial(PreActivationResNet, (1, 1), (8, 16), first=8),
    "densenet-bc-100-12": partial(DenseNetBC, 100, 12),
    "densenet-bc-40-12": partial(DenseNetBC, 40, 12),
    "preact-resnet-18": partial(PreActivationResNet, *EIGHTEEN, first=64, last=False),
    "resnet-18": ResNet18,
    "preact-resnet-110": partial(PreActivationResNet, (18,) * 3, THREE, shortcut="pad"),
    "preact-resnet-164": partial(PreActivationResNet, (18,) * 3, THREE, bottleneck=True),
    "wrn-28-10": partial(wide_resnet, 28, 10),
    "wrn-16-4": partial(wide_resnet, 16, 4),
    "efficientnet-b0": EfficientNet,
    "efficientnet-b0-cifar": for_small_images,
    "mixer-s-2": partial(Mixer, 2),
    "mixer-s-4": partial(Mixer, 4),
    "mixer-s-8": partial(Mixer, 8),
    "mixer-nano": partial(Mixer, 4, 128, 64, 512),
}


def network(name: str, parts: Parts) -> nnx.Module:
    """The network of a name.

    Args:
        name: one of `NETWORKS`.
        parts: what it is made of: its normalisation, its classes, …

    Raises:
        ValueError: for another name.
    """
    if name not in NETWORKS:
        raise ValueError(f"network is one of {', '.join(NETWORKS)}, got {name!r}.")
    return NETWORKS[name](parts=parts)
