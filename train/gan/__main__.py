"""`python -m train.gan`."""

from train.gan.settings import Config
from train.report import commandline

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
