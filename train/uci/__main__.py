"""`python -m train.uci`."""

import sys
from collections.abc import Sequence

from train.report import commandline
from train.uci.settings import Config


def cli(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    return commandline.run(
        "train.uci",
        Config,
        "train.uci.experiment",
        description="Regression on UCI tables, eight methods, two noises ([B] 4.2, Table 2).",
        example="""
            python -m train.uci                                # scikit-learn's diabetes, no files
            python -m train.uci --data-dir FOLDER              # the nine sets, all methods
            python -m train.uci --data-dir FOLDER --data yacht boston --methods moments_adam
        """,
        continues="with the next cell",
        arguments=arguments,
    )


if __name__ == "__main__":
    sys.exit(cli())
