"""The version, in a file that every room may read."""

__version__ = "0.2.0"
