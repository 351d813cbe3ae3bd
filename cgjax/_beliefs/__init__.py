"""Beliefs through programs: what each primitive does to means and variances."""

from cgjax._beliefs.propagate import (
    FUNCTIONS,
    RULES,
    Beliefs,
    NoMomentRuleError,
    propagate,
)

__all__ = ["FUNCTIONS", "RULES", "Beliefs", "NoMomentRuleError", "propagate"]
