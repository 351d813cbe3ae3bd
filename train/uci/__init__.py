"""Regression on nine UCI tables ([B] 4.2, Table 2)."""
