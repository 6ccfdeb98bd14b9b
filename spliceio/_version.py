"""The version, for whoever asks inside the package: setuptools and the docs read it from here."""

__version__ = "0.1.0"
