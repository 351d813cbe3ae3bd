"""Variance of gradients ([B] 4.1, Figure 1)."""
