"""`python -m train.report RESULT.json ...`: tables as Markdown."""

import sys
from pathlib import Path

from train.report.files import DataFileError
from train.report.tables import markdown, read

if len(sys.argv) < 2:
    sys.exit("usage: python -m train.report RESULT.json ...")
try:
    print(markdown([read(Path(name)) for name in sys.argv[1:]]), end="")
except (DataFileError, ValueError) as error:
    sys.exit(f"error: {error}")
