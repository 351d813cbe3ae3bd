#!/bin/sh
# pyAgrum's reader of BIF takes states that are identifiers or whole numbers, and no others.
#
# Package: pyagrum 3.3.1, on Python 3.11 to 3.13.
# Seen: states written as ranges or with signs, such as <5, >=7.5, 5-12, 12+, a/b or 0-3_days, end in a
# FatalError about syntax, where other readers of this format take what stands between the commas. One
# of the public networks that papers compare on, "child", has such states in six of its twenty
# variables, so that it cannot be loaded as it is published; its text has to be rewritten first. Names
# such as lt5 or 5_12, and 5 alone, are read.
#
# Fails (exit status 1) if any of this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyagrum==3.3.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import pathlib

import pyagrum

NETWORK = """network ages {{
}}
variable age {{
  type discrete [ 2 ] {{ {}, {} }};
}}
probability ( age ) {{
  table 0.25, 0.75;
}}
"""


def read(*states):
    path = pathlib.Path("ages.bif")
    path.write_text(NETWORK.format(*states))
    try:
        network = pyagrum.loadBN(str(path))
    except pyagrum.FatalError as error:
        assert "Syntax error" in str(error), error
        return None
    return network.variable("age").labels()


print("pyagrum", pyagrum.__version__)
for states in (("young", "old"), ("lt5", "5_12"), ("5", "12")):
    print(states, "read as", read(*states))
    assert read(*states) == states
for states in (("<5", "old"), ("young", ">=7.5"), ("5-12", "old"), ("young", "12+"), ("a/b", "old")):
    print(states, "read as", read(*states))
    assert read(*states) is None
assert read("0-3_days", "old") is None
PYTHON
echo "As described."
