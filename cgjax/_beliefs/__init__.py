"""Beliefs through programs: what each primitive does to means and variances."""

from cgjax._beliefs.propagate import propagate
from cgjax._beliefs.registry import key_of, register
from cgjax._beliefs.settings import Beliefs, NoMomentRuleError

__all__ = ["Beliefs", "NoMomentRuleError", "key_of", "propagate", "register"]
