"""Inverted bottlenecks with squeeze and excitation: EfficientNet in Linen, MobileNetV3 in Keras."""

from typing import Any

import flax.linen as nn

from tests.zoo.build import image, keras_parts, linen_parts
from tests.zoo.example import Example, Parts
from tests.zoo.keras_cnn import SCALES


class SqueezeExcite(nn.Module):
    reduced: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        s = x.mean((1, 2), keepdims=True)
        s = nn.swish(nn.Conv(self.reduced, (1, 1))(s))
        return x * nn.sigmoid(nn.Conv(x.shape[-1], (1, 1))(s))


class MBConv(nn.Module):
    outputs: int
    strides: int
    expansion: int = 2

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        def norm(x: Any) -> Any:
            return nn.BatchNorm(use_running_average=not train)(x)

        width = self.expansion * x.shape[-1]
        h = nn.swish(norm(nn.Conv(width, (1, 1), use_bias=False)(x)))
        depthwise = nn.Conv(
            width, (3, 3), self.strides, feature_group_count=width, use_bias=False, name="depthwise"
        )
        h = nn.swish(norm(depthwise(h)))
        h = SqueezeExcite(2)(h)
        h = norm(nn.Conv(self.outputs, (1, 1), use_bias=False)(h))
        return x + h if x.shape == h.shape else h


class EfficientNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = True) -> Any:
        x = nn.Conv(4, (3, 3), use_bias=False)(x)
        x = nn.swish(nn.BatchNorm(use_running_average=not train)(x))
        x = MBConv(4, strides=1)(x, train)
        x = MBConv(6, strides=2)(x, train)
        x = nn.Conv(8, (1, 1), use_bias=False)(x)
        x = nn.swish(nn.BatchNorm(use_running_average=not train)(x))
        return nn.Dense(5)(x.mean((1, 2)))


def make() -> Parts:
    return linen_parts(EfficientNet(), image(), train=False)


def make_mobilenet() -> Parts:
    def model(keras: Any) -> Any:
        layers = keras.layers

        def hard_sigmoid(x: Any) -> Any:
            return layers.ReLU(6.0)(x + 3.0) * (1.0 / 6.0)

        def hard_swish(x: Any) -> Any:
            return layers.Activation("hard_swish")(x)

        def bottleneck(x: Any, expanded: int, filters: int, stride: int, act: Any) -> Any:
            h = layers.Conv2D(expanded, 1, use_bias=False)(x)
            h = act(layers.BatchNormalization()(h))
            h = layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(h)
            h = act(layers.BatchNormalization()(h))
            s = layers.GlobalAveragePooling2D(keepdims=True)(h)
            s = layers.ReLU()(layers.Conv2D(2, 1)(s))
            h = layers.Multiply()([h, hard_sigmoid(layers.Conv2D(expanded, 1)(s))])
            h = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(h))
            return layers.Add()([x, h]) if stride == 1 else h

        inputs = keras.Input((8, 8, 3))
        x = layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
        x = hard_swish(layers.BatchNormalization()(x))
        x = bottleneck(x, 6, 4, 1, layers.ReLU())
        x = bottleneck(x, 6, 6, 2, hard_swish)
        x = layers.GlobalAveragePooling2D()(x)
        return keras.Model(inputs, layers.Dense(5)(x))

    return keras_parts(model, image())


EXAMPLES = (
    Example("EfficientNet", "linen", "vision", make, activations=10, optional=2),
    Example(
        "MobileNetV3",
        "keras",
        "vision",
        make_mobilenet,
        activations=9,
        optional=2,
        errors={"local_reparameterization": SCALES},
    ),
)
