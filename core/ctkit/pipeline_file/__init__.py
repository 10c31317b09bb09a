"""The pipeline file: TOML, checked once, becomes a resolved pipeline.

Its JSON Schema comes from the same models.
"""

from __future__ import annotations

from ctkit.pipeline_file.mistakes import validated
from ctkit.pipeline_file.pipeline import Arm, Chosen, Document, Pipeline, PretrainPlan, Step, TaskPlan
from ctkit.pipeline_file.resolution import resolve
from ctkit.pipeline_file.sections import Keep, Rendering

__all__ = [
    "Arm", "Chosen", "Document", "Keep", "Pipeline", "PretrainPlan", "Rendering", "Step", "TaskPlan",
    "resolve", "validated",
]  # fmt: skip
