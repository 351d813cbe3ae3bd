"""`python -m train.tagging`."""

from train.report import commandline
from train.tagging.settings import Config

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
