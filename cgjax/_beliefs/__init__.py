"""Beliefs through programs: what each primitive does to means and variances."""

from cgjax._beliefs.propagate import Beliefs, NoMomentRuleError, propagate
from cgjax._beliefs.registry import key_of, register

__all__ = ["Beliefs", "NoMomentRuleError", "key_of", "propagate", "register"]
