"""`python -m train.resnet`."""

from train.report import commandline
from train.resnet.settings import Config

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
