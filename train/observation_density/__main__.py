"""`python -m train.observation_density`."""

from train.observation_density.settings import Config
from train.report import commandline

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
