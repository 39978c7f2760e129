"""AGR: tell a woman's voice from a man's, and measure it on speakers the model never heard."""

__version__ = "0.1.0"
