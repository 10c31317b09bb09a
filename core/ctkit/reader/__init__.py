"""A finished run, opened again: its files, and one arm with its slices for who explains or exports it."""

from __future__ import annotations

from ctkit.reader.run import ChosenSlices, Run, RunArm, RunBackbone, RunPredictions, RunTraining, open_run
from ctkit.storage.records import (
    ArmFacts,
    ComparisonRow,
    CurveRow,
    Pictures,
    Place,
    ScoreRow,
    StepFacts,
    VolumeRow,
)

__all__ = [
    "ArmFacts", "ChosenSlices", "ComparisonRow", "CurveRow", "Pictures", "Place", "Run", "RunArm", "RunBackbone",
    "RunPredictions", "RunTraining", "ScoreRow", "StepFacts", "VolumeRow", "open_run",
]  # fmt: skip
