"""Checkpoints of a training: written whole or not at all, the last two kept, never unpickled into code."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from ctkit.files import read_sealed, writing

KEPT = 2

log = logging.getLogger("ctkit.models")


class Checkpoints:
    """The checkpoints in a folder that belongs to one training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: dict[str, Any], step: int) -> None:
        """Write the state after ``step`` steps; the one before it stays, in case a disk loses what it promised."""
        with writing(self.folder / f"step-{step:010d}.ckpt", sealed=True) as temporary:
            _write(state, temporary)
        for outdated in self._newest_first()[KEPT:]:
            outdated.unlink()

    def newest(self) -> dict[str, Any] | None:
        """State of the newest checkpoint that can be read; None where there is none."""
        for path in self._newest_first():
            if read_sealed(path):
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            log.warning("a checkpoint is damaged and ignored")
        return None

    def remove(self) -> None:
        """Remove all, and what a killed process left half written."""
        for path in [*self._newest_first(), *self.folder.glob(".step-*.part")]:
            path.unlink()

    def _newest_first(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.ckpt"), reverse=True)


def _write(state: dict[str, Any], path: Path) -> None:
    """Write a state. Raises ``OSError`` where the disk is full, which torch hides behind an error of its own."""
    try:
        with path.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise
