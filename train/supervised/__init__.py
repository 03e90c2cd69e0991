"""Supervised meta-learning."""
