"""What checks annotations while examples run, under a name of its own.

jaxtyping keeps the byte code of a package with checks by the name of what checks. While a package
is imported, its kept code also goes by that name for the packages that it imports, which may be
without checks (0.3.11): code that other tests have left behind would run unchecked.
"""

from beartype import beartype

__all__ = ["beartype"]
