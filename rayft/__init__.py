"""rayft: distributed fine-tuning of pretrained models on Ray."""

__version__ = "0.1.0"
