"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

from typing import TYPE_CHECKING, Any

from ctkit import hookspecs

if TYPE_CHECKING:
    from ctkit.console import Console, quantities, redaction
    from ctkit.reader import (
        ArmFacts,
        ChosenSlices,
        ComparisonRow,
        CurveRow,
        Pictures,
        Place,
        Run,
        RunArm,
        RunBackbone,
        RunPredictions,
        RunTraining,
        ScoreRow,
        StepFacts,
        VolumeRow,
        open_run,
    )  # fmt: skip
    from ctkit.reader.arm import RevisitedArm
    from ctkit.slices import Selection

__all__ = [
    "ArmFacts", "ChosenSlices", "ComparisonRow", "Console", "CurveRow", "Pictures", "Place", "RevisitedArm", "Run",
    "RunArm", "RunBackbone", "RunPredictions", "RunTraining", "ScoreRow", "Selection", "StepFacts", "VolumeRow",
    "open_run", "quantities", "redaction",
]  # fmt: skip

__version__ = hookspecs.VERSION


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that ``import ctkit`` stays cheap."""
    if name not in __all__:
        raise AttributeError(f"module 'ctkit' has no attribute {name!r}")
    if name in ("Console", "quantities", "redaction"):
        from ctkit import console

        return getattr(console, name)
    if name in ("RevisitedArm", "Selection"):  # with all that opening a run's slices takes
        from ctkit.reader import arm

        return getattr(arm, name)
    from ctkit import reader

    return getattr(reader, name)
