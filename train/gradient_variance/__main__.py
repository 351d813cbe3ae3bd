"""`python -m train.gradient_variance`."""

from train.gradient_variance.settings import Config
from train.report import commandline

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
