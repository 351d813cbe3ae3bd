"""`python -m train.uci`."""

import sys

from train.uci.experiment import cli

sys.exit(cli())
