"""Dense networks on images: no regularisation, dropout, PCFF, and both ([A] 5.1, Figure 4 left).

Network 784-1024-1024-10 (minimal: nine logits and a zero) with tanh or ReLU nodes; SGD 0.01 with
momentum 0.9, batches of 32, learning rate divided by ten on a plateau of the validation loss, early
stopping, the weights of the lowest validation loss tested once. Drop rate 0.5; PCFF at rate 0.4 for
tanh and 1.0 for ReLU.

**Claims** of the paper (its figure gives no numbers): dropout and PCFF are comparable and both
improve on none in most of the four cases; ReLU always gives lower test errors than tanh; the two
together sometimes help further.

**Cost**: digits about a minute on two CPU cores. MNIST and Fashion-MNIST three to four seconds for
an epoch of a run there, and from 30 to more than 100 epochs a run.
"""

import functools

from jaxtyping import Array, Float

import cgjax as cg
from train.data import Dataset
from train.dense import figure
from train.dense.settings import Config, Nodes
from train.engine import sweep
from train.models.dense import Dense

FAMILIES = {"tanh": cg.nodes.Spin(), "relu": cg.nodes.ReLU()}
CLASSES = 10


def experiment(config: Config, dataset: Dataset) -> sweep.Experiment:
    """What is compared, on the images of a data set. Mapped, all runs of a node family are one
    program."""
    size = dataset.train_x.shape[1], config.hidden_nodes
    return sweep.Experiment(
        title="dense networks on images",
        source="[A] 5.1, Figure 4 left",
        settings=config,
        recipe=config.recipe,
        dataset=dataset,
        networks={nodes: network(nodes, *size) for nodes in config.nodes},
        learner_of=lambda net, known: sweep.learner(net, rows, known),
        prepare=rows,
        samples=config.samples,
    )


main = functools.partial(sweep.run, experiment, draw=figure.draw)


@functools.lru_cache
def network(nodes: Nodes, features: int, hidden: int) -> sweep.Network:
    """The network of so many inputs and nodes of each hidden layer, as functions."""
    return sweep.network(lambda rngs: Dense(FAMILIES[nodes], features, hidden, CLASSES, rngs))


def rows(x: Float[Array, "n pixels"]) -> Float[Array, "n pixels"]:
    """Images as they are."""
    return x
