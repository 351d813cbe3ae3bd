"""`python -m train.resnet`."""

import sys

from train.resnet.experiment import cli

sys.exit(cli())
