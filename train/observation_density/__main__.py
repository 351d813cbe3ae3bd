"""`python -m train.observation_density`."""

import sys
from collections.abc import Sequence

from train.observation_density.settings import Config
from train.report import commandline


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.observation_density",
        Config,
        "train.observation_density.experiment",
        description="Examples that a trained network expects ([B] Figure 2).",
        example="""
            python -m train.observation_density
            python -m train.observation_density --data boston --data-dir FOLDER
        """,
        continues=None,
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(cli())
