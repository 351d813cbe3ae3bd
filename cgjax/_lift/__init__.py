"""Lifting: recognises ordinary activations, tells what each is for, and marks them as nodes."""

from cgjax._lift.lift import Lifted, LiftEntry, LiftReport, lift

__all__ = ["LiftEntry", "LiftReport", "Lifted", "lift"]
