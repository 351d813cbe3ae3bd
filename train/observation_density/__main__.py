"""`python -m train.observation_density`."""

import sys

from train.observation_density.experiment import cli

sys.exit(cli())
