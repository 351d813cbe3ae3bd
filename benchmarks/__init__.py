"""Benchmarks: each file's docstring is the question it answers."""
