"""Exporters: what a run has chosen and trained, for use elsewhere."""
