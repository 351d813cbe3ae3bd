"""Residual networks on CIFAR-10 ([A] 5.1)."""
