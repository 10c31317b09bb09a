"""ctkit: contrastive pre-training on CT with less, but better chosen data. The core knows no torch."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from ctkit import hookspecs

if TYPE_CHECKING:
    from ctkit.cli import main
    from ctkit.cli.completion import complete_arms
    from ctkit.cli.options import output_options
    from ctkit.console import Console, quantities, redaction
    from ctkit.reader import Run, RunArm, RunBackbone, RunPredictions, RunTraining, SelectionTable, open_run
    from ctkit.reader.arm import RevisitedArm
    from ctkit.runner.query import Query, QueryRow, query
    from ctkit.runner.studies import Reduction, reduce, run
    from ctkit.slices import Pictures, Selection, rendering
    from ctkit.storage.records import ArmFacts, ComparisonRow, CurveRow, Place, ScoreRow, StepFacts, VolumeRow

_OF_RECORDS = ("ArmFacts", "ComparisonRow", "CurveRow", "Place", "ScoreRow", "StepFacts", "VolumeRow")
__all__ = [
    "ArmFacts", "ComparisonRow", "Console", "CurveRow", "Pictures", "Place", "Query", "QueryRow", "Reduction",
    "RevisitedArm", "Run", "RunArm", "RunBackbone", "RunPredictions", "RunTraining", "ScoreRow", "Selection",
    "SelectionTable", "StepFacts", "VolumeRow", "__version__", "complete_arms", "main", "open_run", "output_options",
    "quantities", "query", "redaction", "reduce", "rendering", "run",
]  # fmt: skip
__version__ = hookspecs.VERSION


def __getattr__(name: str) -> Any:
    """Import what is public here when it is asked for, so that a plugin's light module costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'ctkit' has no attribute {name!r}")
    owner: ModuleType
    if name in ("complete_arms", "main", "output_options"):
        from ctkit import cli as owner
    elif name in ("Console", "quantities", "redaction"):
        from ctkit import console as owner
    elif name in ("Pictures", "Selection", "rendering"):
        from ctkit import slices as owner
    elif name == "RevisitedArm":  # with all that opening a run's slices takes
        from ctkit.reader import arm as owner
    elif name in ("Reduction", "reduce", "run"):
        from ctkit.runner import studies as owner
    elif name in ("Query", "QueryRow", "query"):
        from ctkit.runner import query as owner
    elif name in _OF_RECORDS:
        from ctkit.storage import records as owner
    else:
        from ctkit import reader as owner
    return getattr(owner, name)
