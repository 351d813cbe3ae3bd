"""`python -m train.segmentation`."""

from train.report import commandline
from train.segmentation.settings import Config

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
