"""Which version this is; apart, so that what the package offers may import everything."""

__version__ = "0.1.0"
