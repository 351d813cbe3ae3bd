"""The same training steps in PyTorch, where it is installed: what the benchmarks compare with.

A step does what a step of the training scripts of [A] does (tum-vision/nnascg; dense networks as in
`mnist_simple`, others in `torch_networks.py`): masks and signs are drawn by `torch.bernoulli` from
a tensor of probabilities, whole samples are drawn and then chosen by the mask, and loss and number
of hits are read after every step. What it does not do is load data.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def pcff(node: str, rate: float) -> Callable[[Any], Any]:
    """A function of natural parameters: the activations, some of them replaced by samples.

    Args:
        node: "tanh" or "relu".
        rate: the probability that a node is sampled.
    """
    import torch  # pyright: ignore[reportMissingImports]

    def layer(e: Any) -> Any:
        if node == "tanh":
            activation = torch.tanh(e)
            sample = 2.0 * torch.bernoulli(torch.sigmoid(2 * e)) - 1.0
        else:
            activation = torch.relu(e)
            sample = torch.relu(e + torch.randn_like(e) * torch.tanh(e))
        if rate >= 1:
            return sample
        mask = torch.bernoulli(torch.full_like(e, rate)).bool()
        return torch.where(mask, sample, activation)

    return layer


def training(
    forward: Callable[[Any], Any],
    optimiser: Any,
    x: Any,
    y: Any,
    before: Callable[[], None] = lambda: None,
    limit: Callable[[], None] = lambda: None,
) -> Callable[[int], None]:
    """A function that makes a number of training steps on one batch.

    Args:
        forward: from inputs to logits.
        optimiser: of `torch.optim`.
        x, y: the inputs and the labels.
        before: called before each forward pass.
        limit: called when the gradients are there.
    """
    import torch  # pyright: ignore[reportMissingImports]

    def run(calls: int) -> None:
        loss_sum, hits = 0.0, 0
        for _ in range(calls):
            before()
            optimiser.zero_grad()
            value = forward(x)
            loss = torch.nn.functional.cross_entropy(value, y)
            hits += int((value.detach().argmax(1) == y).sum())
            loss_sum += loss.item()
            loss.backward()
            limit()
            optimiser.step()

    return run


def steps(
    sizes: tuple[int, ...],
    batch_size: int,
    procedures: dict[str, tuple[str, str, float]],
    classes: int | None = None,
) -> dict[str, Callable[[int], None]]:
    """Functions that make a number of training steps.

    Args:
        sizes: the widths of the layers, input and output included.
        batch_size: rows of a batch.
        procedures: for each name the node ("tanh" or "relu"), the procedure ("none", "dropout" or
            "pcff") and its rate.
        classes: the number of classes; logits of 0 are appended to the outputs for those that the
            network has none for.

    Raises:
        ImportError: if PyTorch is not installed.
    """
    import torch  # pyright: ignore[reportMissingImports]

    def network(node: str, procedure: str, rate: float) -> Any:
        layers: list[Any] = []
        pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
        for index, (inputs, outputs) in enumerate(pairs):
            layers.append(torch.nn.Linear(inputs, outputs))
            if index == len(pairs) - 1:
                break
            if procedure == "pcff":
                layers.append(pcff(node, rate))
            else:
                layers.append(torch.tanh if node == "tanh" else torch.relu)
            if procedure == "dropout":
                layers.append(torch.nn.Dropout(rate))
        return layers

    missing = (classes or sizes[-1]) - sizes[-1]
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.random((batch_size, sizes[0]), dtype=np.float32))
    y = torch.from_numpy(generator.integers(0, classes or sizes[-1], batch_size))

    def stepper(node: str, procedure: str, rate: float) -> Callable[[int], None]:
        layers = network(node, procedure, rate)
        parameters = [p for f in layers if isinstance(f, torch.nn.Module) for p in f.parameters()]
        optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

        def forward(value: Any) -> Any:
            for layer in layers:
                value = layer(value)
            return torch.nn.functional.pad(value, (0, missing))

        return training(forward, optimiser, x, y)

    return {name: stepper(*options) for name, options in procedures.items()}
