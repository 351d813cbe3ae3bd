"""The networks of the benchmarks in PyTorch, trained as their authors train them.

Written from descriptions. A step does what a step of the training scripts of [A] does
(tum-vision/nnascg; dense networks as in `mnist_simple`): masks and signs are drawn by
`torch.bernoulli` from a tensor of probabilities, whole samples are drawn and then chosen by the
mask, and loss and number of hits are read after every step. What it does not do is load data.

The plain independently recurrent network of Li et al. (CVPR 2018): an affine map of all steps, a
cell that a Python loop calls at each step, batch normalisation over batch and time, dropout with
one mask for all steps; recurrent weights are clipped before a step and gradients after it. The
residual network of [A]: refinements with 3 x 3 shortcuts, and normalisation, ReLU and the
regulariser as one layer at 19 places. Parameters have the names that they have in `train/models/`,
but for the last part, which is PyTorch's.

This module needs PyTorch.
"""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

import cgjax as cg
from benchmarks.timing import Steps, batch
from train.engine.recipes import PatientRecipe, SteppedRecipe
from train.engine.settings import Rates

CLASSES = 10
Hook = Callable[[], None] | None


class Nodes(nn.Module):
    """ReLU nodes or, if asked for, tanh nodes; in training each is sampled at a rate."""

    def __init__(self, rate: float, node: str = "relu"):
        super().__init__()
        self.rate, self.node = rate, node

    def forward(self, e: Any) -> Any:
        activation = torch.tanh(e) if self.node == "tanh" else torch.relu(e)
        if not self.training or not self.rate:
            return activation
        if self.node == "tanh":
            sample = 2.0 * torch.bernoulli(torch.sigmoid(2 * e)) - 1.0
        else:
            sample = torch.relu(e + torch.randn_like(e) * torch.tanh(e))
        if self.rate >= 1:
            return sample
        return torch.where(
            torch.bernoulli(torch.full_like(e, self.rate)).bool(), sample, activation
        )


def training(
    network: nn.Module, optimiser: Any, x: Any, y: Any, before: Hook = None, limit: Hook = None
) -> Steps:
    """Training steps on one batch; `before` is called before each forward pass, `limit` when the
    gradients are there."""
    x, y = torch.tensor(x), torch.tensor(y, dtype=torch.long)
    network.train()

    def run(calls: int) -> None:
        loss_sum, hits = 0.0, 0
        for _ in range(calls):
            if before:
                before()
            optimiser.zero_grad()
            value = network(x)
            loss = nn.functional.cross_entropy(value, y)
            hits += int((value.detach().argmax(1) == y).sum())
            loss_sum += loss.item()
            loss.backward()
            if limit:
                limit()
            optimiser.step()

    return run


def dense(sizes: tuple[int, ...], size: int, node: str, procedure: str, rate: float) -> Steps:
    """Training steps of a dense network on a random batch.

    Args:
        sizes: the widths of the layers, input and output included; logits of 0 are appended for the
            classes that the network has none for.
        size: of the batch.
        node: "tanh" or "relu".
        procedure, rate: "none", "dropout" or "pcff", and its rate.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        if layers:
            layers.append(Nodes(rate if procedure == "pcff" else 0.0, node))
            layers += [nn.Dropout(rate)] * (procedure == "dropout")
        layers.append(nn.Linear(inputs, outputs))
    network = nn.Sequential(*layers, nn.ConstantPad1d((0, CLASSES - sizes[-1]), 0.0))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    x, y = map(np.asarray, batch(size, sizes[:1], CLASSES))
    return training(network, optimiser, x, y)


class Cell(nn.Module):
    """An affine map of all steps at once, and the recurrence, one call a step."""

    def __init__(self, inputs: int, features: int, bound: float, rate: float):
        super().__init__()
        self.input = nn.Linear(inputs, features)
        self.recurrent = nn.Parameter(bound * torch.rand(features))
        self.node = Nodes(rate)

    def step(self, e: Any, state: Any) -> Any:
        return self.node(e + self.recurrent * state)

    def forward(self, x: Any) -> Any:
        natural = self.input(x)
        states = [torch.zeros_like(natural[0])]
        for e in natural:
            states.append(self.step(e, states[-1]))
        return torch.stack(states[1:])


class Layer(nn.Module):
    """A cell, batch normalisation over batch and time, dropout of a state at all steps."""

    def __init__(self, inputs: int, features: int, bound: float, rates: Rates):
        super().__init__()
        self.recurrent = Cell(inputs, features, bound, rates.pcff)
        self.norm = nn.BatchNorm1d(features)
        self.drop = nn.Dropout(rates.drop) if rates.drop else None

    def forward(self, x: Any) -> Any:
        h = self.recurrent(x)
        h = self.norm(h.flatten(0, 1)).view_as(h)
        return h if self.drop is None else h * self.drop(torch.ones_like(h[0]))


class IndRNN(nn.Module):
    """Logits from sequences of `steps` numbers (time, batch, 1), by layers of `features` nodes."""

    def __init__(self, depth: int, features: int, steps: int, rates: Rates):
        super().__init__()
        self.bound = cg.layers.recurrent_weight_bound(steps)
        self.layers = nn.ModuleList(
            Layer(features if i else 1, features, self.bound, rates) for i in range(depth)
        )
        self.classifier = nn.Linear(features, CLASSES)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x[-1])

    def steps(self, recipe: PatientRecipe, x: Any, y: Any) -> Steps:
        kept, decayed = [], []
        for name, parameter in self.named_parameters():
            (kept if name.endswith(("bias", ".recurrent")) else decayed).append(parameter)
        optimiser = torch.optim.Adam(
            [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept}],
            lr=recipe.learning_rate,
        )

        def clip() -> None:
            with torch.no_grad():
                for layer in self.layers:
                    layer.recurrent.recurrent.clamp_(-self.bound, self.bound)

        def limit() -> None:
            nn.utils.clip_grad_value_(self.parameters(), recipe.largest_gradient)

        return training(self, optimiser, x, y, clip, limit)


class Place(nn.Module):
    """Batch normalisation, ReLU nodes, and dropout where there is a rate."""

    def __init__(self, width: int, rates: Rates):
        super().__init__()
        self.normalise = nn.BatchNorm2d(width)
        self.node = Nodes(rates.pcff)
        self.drop = nn.Dropout(rates.drop) if rates.drop else nn.Identity()

    def forward(self, t: Any) -> Any:
        return self.drop(self.node(self.normalise(t)))


def convolution(inputs: int, outputs: int, stride: int = 1) -> Any:
    """3 x 3, without bias."""
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)


class Identity(nn.Module):
    """A block whose shortcut is the identity."""

    def __init__(self, width: int, rates: Rates):
        super().__init__()
        self.before, self.between = Place(width, rates), Place(width, rates)
        self.first, self.second = convolution(width, width), convolution(width, width)

    def forward(self, t: Any) -> Any:
        return t + self.second(self.between(self.first(self.before(t))))


class Refined(nn.Module):
    """The nodes below and the block that begins a stage, whose shortcut is a convolution."""

    def __init__(self, inputs: int, outputs: int, rates: Rates):
        super().__init__()
        self.before, self.between = Place(inputs, rates), Place(outputs, rates)
        self.base, self.copy = convolution(inputs, outputs, 2), convolution(inputs, outputs, 2)
        self.second = convolution(outputs, outputs)

    def forward(self, t: Any) -> Any:
        h = self.before(t)
        return self.base(h) + self.second(self.between(self.copy(h)))


class ResNet(nn.Module):
    """Logits from images (batch, channels, rows, columns), by three stages of so many blocks, each
    of twice the channels of the one before."""

    def __init__(self, blocks: int, channels: int, rates: Rates):
        super().__init__()
        parts: list[nn.Module] = [Identity(channels, rates) for _ in range(blocks)]
        for width in (2 * channels, 4 * channels):
            parts.append(Refined(width // 2, width, rates))
            parts += [Identity(width, rates) for _ in range(blocks - 1)]
        self.first = convolution(3, channels)
        self.blocks = nn.Sequential(*parts)
        self.last = Place(4 * channels, rates)
        self.output = nn.Linear(4 * channels, CLASSES)

    def forward(self, x: Any) -> Any:
        return self.output(self.last(self.blocks(self.first(x))).mean((2, 3)))

    def steps(self, recipe: SteppedRecipe, x: Any, y: Any) -> Steps:
        rates = {"lr": recipe.learning_rate, "momentum": recipe.momentum}
        optimiser = torch.optim.SGD(self.parameters(), weight_decay=recipe.weight_decay, **rates)
        return training(self, optimiser, x, y)


def log_probs(network: Any, x: Any) -> Any:
    """Of the classes, by running statistics and without noise."""
    network.eval()
    with torch.no_grad():
        return torch.log_softmax(network(torch.tensor(x)), 1).numpy()


def shapes(network: Any) -> dict[str, tuple[int, ...]]:
    """Of the parameters, by name."""
    return {name: tuple(p.shape) for name, p in network.named_parameters()}


def fill(network: Any, weights: dict[str, Any]) -> None:
    """Sets the parameters to arrays of the same names and shapes."""
    network.load_state_dict({n: torch.tensor(w) for n, w in weights.items()}, strict=False)
