"""Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ctkit.contracts import Params, Tracker
from ctkit.errors import RequestError
from ctkit.hookspecs import RunInfo

_DISCREET: Mapping[str, str | bool] = {
    "console": "off",
    "silent": True,
    "disable_git": True,
    "save_code": False,
    "x_disable_meta": True,  # command line, program, folders, host
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


class WandBParams(Params):
    """Where the record goes."""

    project: str | None = Field(None, description='none: that of WANDB_PROJECT, or "ctkit"')
    entity: str | None = Field(None, description="user or team; none: that of WANDB_ENTITY")
    group: str | None = Field(None, description="what several runs are shown together as")
    mode: Literal["online", "offline"] | None = Field(
        None, description="offline keeps all in the run folder; none: that of WANDB_MODE"
    )


class WandB(Tracker[WandBParams]):
    """A run of a Weights & Biases project, with a step axis for each item. The key is that of ``wandb login``.

    Command line, host, folders and packages, which wandb sends by default, are turned off.
    """

    def start(self, run: RunInfo, parameters: Mapping[str, str | float | bool]) -> None:
        """Begin the run."""
        import wandb

        self._run = wandb.init(
            project=self.params.project or os.environ.get("WANDB_PROJECT", "ctkit"),
            entity=self.params.entity,
            group=self.params.group,
            mode=self.params.mode,
            name=run.name,
            config=dict(parameters),
            dir=run.folder,
            settings=wandb.Settings(**_discreet(wandb)),
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
        import wandb

        artifact = wandb.Artifact(path.stem, type="result")
        artifact.add_file(str(path))
        self._run.log_artifact(artifact)

    def end(self, *, finished: bool) -> None:
        """Close the run."""
        self._run.finish(exit_code=0 if finished else 1)


def _discreet(wandb: Any) -> dict[str, str | bool]:
    """Settings that leave out what wandb would send by itself: command line, folders, machine and packages.

    Raises ``RequestError`` where this wandb does not know one of them, as it would send what the setting holds back.
    """
    unknown = [name for name in _DISCREET if name not in wandb.Settings.model_fields]
    if unknown:
        raise RequestError(
            f"wandb {wandb.__version__} has no setting {unknown[0]!r}, without which it would send paths of this "
            "machine; install a version that has it, such as 0.31"
        )
    return dict(_DISCREET)
