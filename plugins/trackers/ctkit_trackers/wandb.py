"""Weights & Biases: the project is that of ``WANDB_PROJECT``, or "ctkit"; ``WANDB_MODE=offline`` keeps all here."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path

import wandb

from ctkit.errors import RequestError
from ctkit.hookspecs import RunInfo
from ctkit_trackers.tracking import Tracker

_DISCREET: Mapping[str, str | bool] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,  # command line, program, folders, host
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandB(Tracker):
    """A run of a project, with a step axis for each item."""

    def __init__(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "ctkit"),
            name=run.name,
            config=dict(parameters),
            dir=run.folder,
            settings=wandb.Settings(**_discreet(wandb.Settings.model_fields)),
        )
        self._items: set[str] = set()

    def metric(self, item: str, name: str, value: float, step: int) -> None:
        """Record a number."""
        axis = f"{item}/step"
        if item not in self._items:
            self._items.add(item)
            self._run.define_metric(axis, hidden=True)
            self._run.define_metric(f"{item}/*", step_metric=axis)
        self._run.log({f"{item}/{name}": value, axis: step})

    def file(self, path: Path) -> None:
        """Keep a file."""
        artifact = wandb.Artifact(path.stem, type="result")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def end(self, *, finished: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=0 if finished else 1)


def _discreet(known: Container[str]) -> dict[str, str | bool]:
    """Settings that leave out what wandb would send by itself: command line, folders, machine and packages.

    Raises ``RequestError`` where this wandb does not know one of them, as it would send what the setting holds back.
    """
    unknown = [name for name in _DISCREET if name not in known]
    if unknown:
        raise RequestError(
            f"wandb {wandb.__version__} has no setting {unknown[0]!r}, without which it would send paths of this "
            "machine; install a version that has it, such as 0.31"
        )
    return dict(_DISCREET)
