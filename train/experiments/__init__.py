"""Experiments as data, how they are run, and the report of what came out."""
