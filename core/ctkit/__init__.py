"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

__version__ = "0.1.0"
