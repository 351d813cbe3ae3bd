"""`python -m train.report RESULT.json ...`: tables as Markdown."""

import json
import sys
from pathlib import Path

from train.report.tables import markdown

print(markdown([json.loads(Path(name).read_text()) for name in sys.argv[1:]]), end="")
