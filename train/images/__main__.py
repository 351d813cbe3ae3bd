"""`python -m train.images`."""

from train.images.settings import Config
from train.report import commandline

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
