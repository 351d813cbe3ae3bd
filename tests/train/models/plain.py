"""The networks of [B] Table 1 in NumPy, as their papers write them, on the trees of parameters that
`nnx.state(net)` has: what `train/models` is held to."""

from typing import Any

import numpy as np
from scipy import special

Values = Any  # nested dictionaries of arrays, and arrays


def conv(p: Values, x: np.ndarray, stride: int = 1, groups: int = 1) -> np.ndarray:
    kernel = p["kernel"]
    if "gain" in p:
        n = np.prod(kernel.shape[:-1])
        centred = kernel - kernel.mean((0, 1, 2))
        kernel = p["gain"] * centred / np.sqrt(n * (centred**2).mean((0, 1, 2)) + 1e-8)
    side, _, inputs, outputs = kernel.shape
    edge = side // 2
    x = np.pad(x, ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), (1, 2))
    windows = windows[:, ::stride, ::stride]  # batch, rows, columns, channels, i, j
    each = outputs // groups
    parts = [
        np.einsum(
            "brcmij,ijmo->brco",
            windows[..., g * inputs : (g + 1) * inputs, :, :],
            kernel[..., g * each : (g + 1) * each],
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, -1) + p.get("bias", 0.0)


def unit(kernel: np.ndarray) -> np.ndarray:
    return kernel / np.sqrt((kernel**2).sum((0, 1, 2)))


def norm(p: Values | None, x: np.ndarray) -> np.ndarray:
    """By running statistics, over the last axis (of layers), or not at all."""
    if not p:
        return x
    if "mean" in p:
        x = (x - p["mean"]) / np.sqrt(p["var"] + 1e-5)
    else:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * p["scale"] + p["bias"]


def scaled(p: Values | None, x: np.ndarray) -> np.ndarray:
    return x * p["factor"] if p else x


def linear(p: Values, x: np.ndarray) -> np.ndarray:
    return x @ p["kernel"] + p["bias"]


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return special.expit(x)


def silu(x: np.ndarray) -> np.ndarray:
    return x * sigmoid(x)


def gelu(x: np.ndarray) -> np.ndarray:
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def ordered(p: Values) -> list[Values]:
    return [p[k] for k in sorted(p)]


def densenet(p: Values, x: np.ndarray) -> np.ndarray:
    x = conv(p["first"], x)
    for layer in ordered(p["layers"]):
        if "convolution" in layer:  # a transition
            x = conv(layer["convolution"], relu(norm(layer.get("norm"), x)))
            x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
        else:
            h = conv(layer["convolution_1"], relu(norm(layer.get("norm_1"), x)))
            h = conv(layer["convolution_2"], relu(norm(layer.get("norm_2"), h)))
            x = np.concatenate([x, h], -1)
    return linear(p["output"], relu(norm(p.get("norm"), x)).mean((1, 2)))


def branch(p: Values, h: np.ndarray, stride: int) -> np.ndarray:
    convolutions, norms = ordered(p["convolutions"]), ordered(p.get("norms", {}))
    for k, c in enumerate(convolutions):
        if k:
            h = relu(norm(norms[k - 1] if norms else None, h))
        # A stride is that of the 3 x 3 convolution, the first of them if there are two.
        first = c["kernel"].shape[0] == 3 and (k == 0 or convolutions[0]["kernel"].shape[0] == 1)
        h = conv(c, h, stride if first else 1)
    return h


def preactivation(p: Values, x: np.ndarray, strides: list[int]) -> np.ndarray:
    x, block = conv(p["first"], x), {}
    for block, stride in zip(ordered(p["blocks"]), strides, strict=True):
        h = relu(norm(block.get("norm"), x))
        side = scaled(block.get("scale"), branch(block["branch"], h, stride))
        if "project" in block:
            x = conv(block["project"], h, stride) + side
        else:
            new = side.shape[-1] - x.shape[-1]
            kept = x[:, ::stride, ::stride]
            x = np.pad(kept, ((0, 0), (0, 0), (0, 0), (new // 2, (new + 1) // 2))) + side
    if "norm" in p or "scale" in block:  # without normalisation, ReLU stays
        x = relu(norm(p.get("norm"), x))
    return linear(p["output"], x.mean((1, 2)))


def postactivation(p: Values, x: np.ndarray, stride: int) -> np.ndarray:
    side = scaled(p.get("scale"), norm(p.get("norm"), branch(p["branch"], x, stride)))
    return relu(norm(p.get("project_norm"), conv(p["project"], x, stride)) + side)


def efficientnet(p: Values, x: np.ndarray, strides: list[int], factor: float) -> np.ndarray:
    x = silu(norm(p.get("first_norm"), conv(p["first"], x, 2)))
    for block, stride in zip(ordered(p["blocks"]), strides, strict=True):
        h = x
        if "expand" in block:
            h = silu(norm(block.get("expand_norm"), conv(block["expand"], h)))
        h = silu(norm(block.get("depthwise_norm"), conv(block["depthwise"], h, stride, h.shape[3])))
        gates = block["gates"]
        gate = sigmoid(linear(gates["excite"], silu(linear(gates["squeeze"], h.mean((1, 2))))))
        h = conv(block["project"], h * factor * gate[:, None, None])
        h = norm(block.get("project_norm"), h)
        same = stride == 1 and h.shape == x.shape
        x = x + scaled(block.get("scale"), h) if same else h
    x = silu(norm(p.get("head_norm"), conv(p["head"], x)))
    return linear(p["output"], x.mean((1, 2)))


def mixer(p: Values, x: np.ndarray, patch: int) -> np.ndarray:
    def perceptron(p: Values, x: np.ndarray) -> np.ndarray:
        return linear(p["second"], gelu(linear(p["first"], x)))

    rows, columns = (side // patch for side in x.shape[1:3])
    tokens = [
        x[:, i * patch : (i + 1) * patch, j * patch : (j + 1) * patch].reshape(len(x), -1)
        for i in range(rows)
        for j in range(columns)
    ]
    x = linear(p["first"], np.stack(tokens, 1))
    for layer in ordered(p["layers"]):
        over = layer["over_tokens"]
        mixed = perceptron(over, norm(layer.get("token_norm"), x).transpose(0, 2, 1))
        x = x + scaled(layer.get("token_scale"), mixed.transpose(0, 2, 1))
        side = perceptron(layer["over_channels"], norm(layer.get("channel_norm"), x))
        x = x + scaled(layer.get("channel_scale"), side)
    return linear(p["output"], norm(p.get("norm"), x).mean(1))
