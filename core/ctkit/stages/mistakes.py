"""Pictures of the most confident mistakes of every evaluation, for the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints, Predictions, worst_mistakes
from ctkit.contracts.judge import image_of
from ctkit.session import Session
from ctkit.slices import write_mistakes
from ctkit.stages.compare import Cell, cell_of
from ctkit.stages.data import Data
from ctkit.stages.evaluate import predictions_of
from ctkit.stages.jobs import Evaluated
from ctkit.stages.pictures import SIDE
from ctkit.stages.tasks import built
from ctkit.storage import RunFolder, address, place


def draw(session: Session, data: Data) -> None:
    """Put ``mistakes.npz`` into the run folder."""
    at = address("mistakes", runs=[[one.plan.id, one.address] for one in data.predictions])
    if not session.cache.holds("pictures", at):
        with session.work("pictures"), session.cache.entry("pictures", at) as folder:
            write_mistakes(RunFolder(folder).mistakes, _pictures(session, data.predictions))
    place(RunFolder(session.cache.path("pictures", at)).mistakes, session.folder.mistakes)


def _pictures(session: Session, evaluated: Sequence[Evaluated]) -> dict[str, tuple[Ints, NDArray[np.uint8]]]:
    runs: dict[Cell, list[Predictions]] = defaultdict(list)
    for one in evaluated:
        runs[cell_of(one)].append(predictions_of(session, one))
    plans = {one.plan.id: one.plan for one in evaluated}
    found: dict[str, tuple[Ints, NDArray[np.uint8]]] = {}
    for name, plan in plans.items():
        of_task = (of_cell for cell, of_cell in runs.items() if cell.place.task == name)
        rows = sorted({mistake.row for of_cell in of_task for mistake in worst_mistakes(of_cell)})
        task = built(plan.task)
        images = [_small(image_of(task, "test", row - 1)) for row in rows]
        stacked = np.stack(images) if images else np.zeros((0, SIDE, SIDE), np.uint8)
        found[name] = np.array(rows, np.int64), stacked
    return found


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (height, width) or (height, width, 3) as a square of grey levels, whole."""
    from PIL import Image, ImageOps

    return np.asarray(ImageOps.pad(Image.fromarray(image).convert("L"), (SIDE, SIDE), Image.Resampling.LANCZOS))
