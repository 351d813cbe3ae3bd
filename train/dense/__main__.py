"""`python -m train.dense`."""

import sys

from train.dense.experiment import cli

sys.exit(cli())
