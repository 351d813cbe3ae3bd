"""`python -m train.uci`."""

from train.report import commandline
from train.uci.settings import Config

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
