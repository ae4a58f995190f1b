"""The version of this package, which is that of permitd."""

__version__ = "0.1.0"
