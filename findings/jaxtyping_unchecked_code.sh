#!/bin/sh
# jaxtyping's import hook keeps unchecked byte code under the name of checked byte code, and later takes
# it for checked.
#
# Package: jaxtyping 0.3.11 with beartype 0.23.1, on Python 3.11.
# Seen: checked modules are kept in __pycache__ by a name of their own, made of the name of the checker.
# While a checked module is imported, the function that makes that name stands in for Python's own, for
# everything that is imported meanwhile: a module that is not to be checked is then kept, unchecked, by
# the same name. A later process that has it checked too takes the kept code: a wrong argument passes.
# A test suite that checks some packages in one step and all of them in the next so checks only those that
# were checked in the first. What helps: no kept byte code for the second step, or a checker by another
# name.
#
# Fails (exit status 1) if this changes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check jaxtyping==0.3.11 \
    beartype==0.23.1
cd "$folder"
mkdir -p outer inner
echo 'import inner' >outer/__init__.py
printf 'def double(x: int) -> int:\n    return 2 * x\n' >inner/__init__.py
cat >wrong.py <<'PYTHON'
import sys

from jaxtyping import install_import_hook

with install_import_hook(sys.argv[1].split(","), "beartype.beartype"):
    import outer
    import inner

try:
    print(inner.double("a"))
except Exception as error:
    print(type(error).__name__)
PYTHON
unset PYTHONDONTWRITEBYTECODE
fresh=$("$folder/venv/bin/python" wrong.py outer,inner)
rm -rf outer/__pycache__ inner/__pycache__
first=$("$folder/venv/bin/python" wrong.py outer)
second=$("$folder/venv/bin/python" wrong.py outer,inner)
echo "checked from the start: $fresh; not asked for: $first; asked for afterwards: $second"
test "$fresh" = TypeCheckError
test "$first" = aa
test "$second" = aa
