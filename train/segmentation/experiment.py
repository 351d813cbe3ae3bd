"""The experiment from the data to `result.json`; see `train.segmentation`."""

import time
from typing import Any

import jax
import numpy as np

from train import data
from train.report import machine, results
from train.segmentation.figure import draw, errors
from train.segmentation.settings import Config
from train.segmentation.training import check_size, images_of, test, train

SOURCE = "[A] section 3"
TITLE = "noisy pictures cleaned by pixels that touch"


def main(config: Config, command: str, console: Any) -> dict[str, Any]:
    """Trains, tests, and leaves the result behind. DataFileError for bad data, ValueError for
    images that are too large for exact inference."""
    dataset = data.load(config.data, config.data_dir)
    training, testing = images_of(config, dataset)
    identity, settings = machine.identity("vmap"), config.facts()
    result = results.origin(
        TITLE, SOURCE, command=command, identity=identity, data=dataset.source, settings=settings
    )
    with results.leaving(config.folder, result, console, draw) as say:
        check_size(config, testing)
        found, learnt = {}, {}
        for model in sorted(config.models, key=lambda model: model == "exact"):
            began = time.perf_counter()
            if model != "exact":
                learnt[model] = jax.block_until_ready(train(config, model, training))
            seconds = time.perf_counter() - began
            parameters = learnt["belief_propagation" if model == "exact" else model]
            wrong, nats, white = test(config, model, parameters, testing)
            found[model] = {
                "error": dict(zip(map(str, config.seeds), wrong.tolist(), strict=True)),
                "nll": dict(zip(map(str, config.seeds), nats.tolist(), strict=True)),
                "couplings": np.asarray(parameters.couplings[0], np.float64).round(4).tolist(),
                "training seconds": round(seconds, 1),
                "white": white.astype(np.float64).round(3).tolist(),
            }
            say(f"{model}: {100 * wrong.mean():.2f} % of the pixels are wrong ({seconds:.0f} s)")
        result |= {
            "sizes": {
                "training images": training.true.shape[1],
                "test images": testing.true.shape[1],
                "height": testing.true.shape[2],
                "width": testing.true.shape[3],
            },
            "models": found,
            "images": {
                name: getattr(testing, name)[0, : config.kept].tolist() for name in testing._fields
            },
        }
        console.print(errors(result).rich())
    return result
