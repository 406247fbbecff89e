"""The version, alone on the ground floor so that every room may name it."""

__version__ = "0.1.0"
