"""Plugins of the datasets family."""
