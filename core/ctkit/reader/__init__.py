"""A finished run, opened again: its files, and one arm with its slices for who explains or exports it."""

from __future__ import annotations

from ctkit.reader.run import Run, RunArm, RunBackbone, RunPredictions, RunTraining, SelectionTable, frame, open_run

__all__ = ["Run", "RunArm", "RunBackbone", "RunPredictions", "RunTraining", "SelectionTable", "frame", "open_run"]
