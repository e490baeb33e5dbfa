"""The version of the package: here, so that every part may know it without importing the whole."""

__version__ = "0.1.0"
