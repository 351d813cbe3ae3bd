"""Independently recurrent networks on sequences of pixels ([A] 5.1)."""
