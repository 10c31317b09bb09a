"""Plugins of the reducers family."""
