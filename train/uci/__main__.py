"""`python -m train.uci`."""

import functools
import sys

from train.report import commandline
from train.uci.settings import Config

cli = functools.partial(
    commandline.run,
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
)


if __name__ == "__main__":
    sys.exit(cli())
