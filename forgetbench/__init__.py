"""forgetbench: tells an engineer what a fine-tune broke."""

__version__ = "0.1.0"
