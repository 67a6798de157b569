"""The version of the package; pyproject.toml takes it from here."""

# no look-up of what is installed: reading that takes longer than most modules
__version__ = "0.1.0"
"""The version of this package (PEP 440)."""
