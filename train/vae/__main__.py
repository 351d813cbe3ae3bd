"""`python -m train.vae`."""

from train.report import commandline
from train.vae.settings import Config

cli = commandline.of(Config)

if __name__ == "__main__":
    raise SystemExit(cli())
