"""MLflow, through a client of its own: what else this process tracks with MLflow is left alone.

The store is that of ``MLFLOW_TRACKING_URI``, the experiment that of ``MLFLOW_EXPERIMENT_NAME``, or "ctkit".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mlflow.tracking import MlflowClient

from ctkit.hookspecs import RunInfo
from ctkit_trackers.tracker import Tracker

_LONGEST = 500  # characters of a parameter that every store takes


class MLflow(Tracker):
    """A run of an experiment."""

    def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        self._client = MlflowClient()
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "ctkit")
        known = self._client.get_experiment_by_name(name)
        experiment = known.experiment_id if known else self._client.create_experiment(name)
        self._id: str = self._client.create_run(experiment, run_name=run.name).info.run_id
        for key, value in parameters.items():
            try:
                self._client.log_param(self._id, _allowed(key), str(value)[:_LONGEST])
            except Exception as error:  # such as two keys that are one in the letters that MLflow takes
                self.end(finished=False)
                raise RuntimeError(f"mlflow rejected the parameter {key}: {error}") from error

    def metric(self, item: str, name: str, value: float, step: int) -> None:
        """Record a number."""
        self._client.log_metric(self._id, _allowed(f"{item}/{name}"), value, step=step)

    def file(self, path: Path) -> None:
        """Keep a file as an artifact."""
        self._client.log_artifact(self._id, str(path))

    def end(self, *, finished: bool) -> None:
        """Close the run."""
        self._client.set_terminated(self._id, "FINISHED" if finished else "FAILED")


def _allowed(key: str) -> str:
    """A key of the letters that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", key)
