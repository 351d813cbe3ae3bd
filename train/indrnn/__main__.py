"""`python -m train.indrnn`."""

import sys

from train.indrnn.experiment import cli

sys.exit(cli())
