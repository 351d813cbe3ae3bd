"""A Keras CNN of the kind that tutorials show: batch norm, max pooling, dropout, a softmax."""

from typing import Any

from tests.zoo.build import image, keras_parts
from tests.zoo.example import Example, Parts

# What local reparameterisation warns of. Keras normalises by x * a + (beta - mean * a), where a is
# gamma / sqrt(variance): each gamma is used twice.
SCALES = "of the weights are used more than once"


def make() -> Parts:
    def model(keras: Any) -> Any:
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((8, 8, 3)),
                layers.Conv2D(4, 3, padding="same"),
                layers.BatchNormalization(),
                layers.Activation("relu"),
                layers.MaxPooling2D(),
                layers.SeparableConv2D(6, 3, padding="same", activation="relu"),
                layers.BatchNormalization(),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(8, activation="relu"),
                layers.Dropout(0.5),
                layers.Dense(5, activation="softmax"),
            ]
        )

    return keras_parts(model, image())


EXAMPLES = (
    Example(
        "CNN",
        "keras",
        "vision",
        make,
        activations=4,
        errors={"local_reparameterization": SCALES},
    ),
)
