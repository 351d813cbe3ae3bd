"""Beliefs through programs: what each primitive does to means and variances."""
