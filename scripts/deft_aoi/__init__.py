"""DEFT AOI: the data-engine loop for TAO VisualChangeNet classify, as a library behind small scripts."""

__version__ = "0.1.0"
