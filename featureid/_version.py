"""The one place that states the version; the packaging metadata takes it from here."""

__version__ = "0.1.0"
