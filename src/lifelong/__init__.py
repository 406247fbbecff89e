"""Language models that keep learning."""

from lifelong.version import __version__

__all__ = ["__version__"]
