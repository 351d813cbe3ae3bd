"""Training steps of pyTAGI, in an interpreter of their own, for `benchmarks.pytagi_comparison`.

It reads a number of steps from a line of its input, makes them on one thread, and answers with the
share of the batch whose largest output is the label's. A step is what pyTAGI's users write: a
forward pass of means and variances, the closed-form update of the outputs by one-hot targets with
known Gaussian noise, the backward pass, and the update of the parameters. This file imports nothing
of cgjax.
"""

import json
import sys

import numpy as np


def main() -> None:
    """Makes steps until the input ends."""
    from pytagi.nn import (  # pyright: ignore[reportMissingImports]
        Linear,
        OutputUpdater,
        ReLU,
        Sequential,
    )

    sizes, batch = json.loads(sys.argv[1])
    layers = []
    for index, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        layers += [ReLU()] * (index > 0) + [Linear(inputs, outputs)]
    network = Sequential(*layers)
    network.set_threads(1)
    network.to_device("cpu")
    updater = OutputUpdater(network.device)

    generator = np.random.default_rng(0)
    labels = generator.integers(0, sizes[-1], batch)
    # A pattern for each class and as much noise, so that a step that works soon shows.
    patterns = generator.standard_normal((sizes[-1], sizes[0]), dtype=np.float32)
    x = patterns[labels] + generator.standard_normal((batch, sizes[0]), dtype=np.float32)
    x = x.reshape(-1) / 2**0.5
    targets = np.eye(sizes[-1], dtype=np.float32)[labels].reshape(-1)
    noise = np.ones_like(targets)
    print("ready", flush=True)
    for line in sys.stdin:
        mean = np.zeros_like(targets)
        for _ in range(int(line)):
            mean, _ = network(x)
            updater.update(network.output_z_buffer, targets, noise, network.input_delta_z_buffer)
            network.backward()
            network.step()
        hits = np.asarray(mean).reshape(batch, -1).argmax(1) == labels
        print(f"{hits.mean()} {network.device}", flush=True)


if __name__ == "__main__":
    main()
