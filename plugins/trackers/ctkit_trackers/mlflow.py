"""MLflow, through a client of its own: what else this process tracks with MLflow is left alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from ctkit.contracts import Params, Tracker
from ctkit.hookspecs import RunInfo

_LONGEST = 500  # characters of a parameter that every store takes


class MLflowParams(Params):
    """Where the record goes."""

    uri: str | None = Field(None, description="tracking server or store; none: that of MLFLOW_TRACKING_URI")
    experiment: str | None = Field(None, description='none: that of MLFLOW_EXPERIMENT_NAME, or "ctkit"')


class MLflow(Tracker[MLflowParams]):
    """A run of an MLflow experiment: parameters, curves, durations, pooled scores, and the report as an artifact.

    User and password are those of MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.
    """

    def check(self, device: str | None) -> Iterable[str]:
        """Say that a password is in the wrong place."""
        if self.params.uri and urlsplit(self.params.uri).password:
            yield "uri must not hold a password, which run.json would show; set MLFLOW_TRACKING_PASSWORD instead"

    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        """Create the run, and the experiment where there is none."""
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(self.params.uri)
        name = self.params.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME", "ctkit")
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
