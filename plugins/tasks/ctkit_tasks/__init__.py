"""Plugins of the tasks family."""
