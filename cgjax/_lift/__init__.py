"""Lifting: recognises ordinary activations, tells what each is for, and marks them as nodes."""

from cgjax._lift.lift import Lifted, lift
from cgjax._lift.report import LiftEntry, LiftReport

__all__ = ["LiftEntry", "LiftReport", "Lifted", "lift"]
