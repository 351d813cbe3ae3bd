"""`python -m train.gradient_variance`."""

import sys

from train.gradient_variance.experiment import cli

sys.exit(cli())
