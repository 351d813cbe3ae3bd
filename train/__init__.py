"""Experiments on cgjax: `python -m train.NAME`. Not part of the installed package."""
