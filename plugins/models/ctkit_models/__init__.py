"""Plugins of the models family."""
