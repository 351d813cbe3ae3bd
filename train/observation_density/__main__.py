"""`python -m train.observation_density`."""

import functools
import sys

from train.observation_density.settings import Config
from train.report import commandline

cli = functools.partial(
    commandline.run,
    "train.observation_density",
    Config,
    "train.observation_density.experiment",
    description="Examples that a trained network expects ([B] Figure 2).",
    example="""
        python -m train.observation_density
        python -m train.observation_density --data boston --data-dir FOLDER
    """,
    continues=None,
)


if __name__ == "__main__":
    sys.exit(cli())
