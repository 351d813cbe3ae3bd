"""The same training steps in PyTorch, where it is installed: what `pcff_overhead` compares with.

The layers are written from the description of the procedures: one mask and one draw for each
element, by PyTorch's own generator.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def steps(
    sizes: tuple[int, ...], batch_size: int, procedures: dict[str, tuple[str, str, float]]
) -> dict[str, Callable[[int], None]]:
    """Functions that make a number of training steps.

    Args:
        sizes: the widths of the layers, input and output included.
        batch_size: rows of a batch.
        procedures: for each name the node ("tanh" or "relu"), the procedure ("none", "dropout" or
            "pcff") and its rate.

    Raises:
        ImportError: if PyTorch is not installed.
    """
    import torch  # pyright: ignore[reportMissingImports]

    def pcff(node: str, rate: float) -> Callable[[Any], Any]:
        def layer(e: Any) -> Any:
            if node == "tanh":
                activation = torch.tanh(e)
                with torch.no_grad():
                    sample = 2.0 * torch.bernoulli(torch.sigmoid(2 * e)) - 1.0
            else:
                activation = torch.relu(e)
                sample = torch.relu(e + torch.randn_like(e) * torch.tanh(e))
            if rate >= 1:
                return sample
            return torch.where(torch.rand_like(e) < rate, sample, activation)

        return layer

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

    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.random((batch_size, sizes[0]), dtype=np.float32))
    y = torch.from_numpy(generator.integers(0, sizes[-1], batch_size))

    def stepper(node: str, procedure: str, rate: float) -> Callable[[int], None]:
        layers = network(node, procedure, rate)
        parameters = [p for f in layers if isinstance(f, torch.nn.Module) for p in f.parameters()]
        optimiser = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

        def run(calls: int) -> None:
            for _ in range(calls):
                value = x
                for layer in layers:
                    value = layer(value)
                optimiser.zero_grad()
                torch.nn.functional.cross_entropy(value, y).backward()
                optimiser.step()

        return run

    return {name: stepper(*options) for name, options in procedures.items()}
