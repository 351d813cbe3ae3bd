"""Simulated observations of a trained network ([B] Figure 2)."""
