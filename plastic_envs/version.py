"""The version of the whole suite."""

__version__ = "0.1.0"
