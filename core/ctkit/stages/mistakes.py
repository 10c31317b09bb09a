"""Pictures of the most confident mistakes of every evaluation, for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Predictions, worst_mistakes
from ctkit.contracts.promises import image_of
from ctkit.session import Session
from ctkit.stages.compare import Cell, cell_of
from ctkit.stages.data import Data
from ctkit.stages.evaluate import predictions_of
from ctkit.stages.jobs import Evaluated
from ctkit.stages.pictures import SIDE
from ctkit.stages.tasks import built
from ctkit.storage import address, place

FILE = "mistakes.npz"  #: ``TASK/rows`` (m,) of the prediction files, from 1, and ``TASK/images`` (m, side, side) uint8


def draw(session: Session, data: Data) -> None:
    """Put ``mistakes.npz`` into the run folder."""
    at = address("mistakes", runs=[[one.plan.id, one.address] for one in data.predictions])
    if not session.cache.holds("pictures", at):
        with session.work("pictures"), session.cache.entry("pictures", at) as folder:
            arrays: dict[str, Any] = _pictures(session, data.predictions)
            np.savez_compressed(folder / FILE, **arrays)
    place(session.cache.path("pictures", at) / FILE, session.folder.path / FILE)


def _pictures(session: Session, evaluated: Sequence[Evaluated]) -> dict[str, NDArray[Any]]:
    runs: dict[Cell, list[Predictions]] = defaultdict(list)
    for one in evaluated:
        runs[cell_of(one)].append(predictions_of(session, one))
    plans = {one.plan.id: one.plan for one in evaluated}
    found: dict[str, NDArray[Any]] = {}
    for name, plan in plans.items():
        rows = _worst([of_cell for cell, of_cell in runs.items() if cell.task == name])
        task = built(plan.task)
        found[f"{name}/rows"] = np.array(rows, np.int64)
        images = [_small(image_of(task, "test", row - 1)) for row in rows]
        found[f"{name}/images"] = np.stack(images) if images else np.zeros((0, SIDE, SIDE), np.uint8)
    return found


def _worst(cells: list[list[Predictions]]) -> list[int]:
    return sorted({mistake.row for runs in cells for mistake in worst_mistakes(runs)})


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width) or (height, width, 3) as a square of grey levels, whole."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(image).convert("L"), (SIDE, SIDE), Image.Resampling.LANCZOS))
