"""AGR: tell a woman's voice from a man's, and prove it on speakers it never heard."""

__version__ = "0.1.0"
