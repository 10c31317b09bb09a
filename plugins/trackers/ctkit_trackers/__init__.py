"""MLflow and Weights & Biases. Neither library is imported before a run uses it."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_trackers() -> Sequence[Spec]:
    """Announce the trackers."""
    return [
        Spec("mlflow", "a run of an MLflow experiment", "ctkit_trackers.mlflow:MLflow", requires="mlflow"),
        Spec("wandb", "a run of a Weights & Biases project", "ctkit_trackers.wandb:WandB", requires="wandb"),
    ]
