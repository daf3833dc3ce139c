"""The version, for whoever must not load the whole public API."""

__version__ = "0.1.0"
