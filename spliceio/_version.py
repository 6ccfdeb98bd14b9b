"""Version of the package, read by setuptools and the docs too."""

__version__ = "0.1.0"
