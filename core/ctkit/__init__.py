"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

from ctkit import hookspecs

__version__ = hookspecs.VERSION
