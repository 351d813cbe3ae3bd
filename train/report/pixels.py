"""Images of grey levels in results, as text of two hexadecimal digits a pixel."""

from typing import Any

import numpy as np
from jaxtyping import Float


def coded(images: Float[Any, "n pixels"]) -> list[str]:
    """Images in [0, 1] as text.

    Example:
        >>> coded(np.array([[0.0, 1.0, 0.5]]))
        ['00ff80']
    """
    return [row.tobytes().hex() for row in np.asarray(255 * images).round().astype(np.uint8)]


def decoded(text: str) -> Float[np.ndarray, "side side"]:
    """A square image that `coded` wrote.

    Example:
        >>> decoded("00ff3300").tolist()
        [[0.0, 1.0], [0.2, 0.0]]
    """
    pixels = np.frombuffer(bytes.fromhex(text), np.uint8) / 255
    side = round(len(pixels) ** 0.5)
    return pixels.reshape(side, side)
