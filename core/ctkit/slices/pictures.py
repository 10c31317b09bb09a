"""Pictures that a run folder keeps for the report: of an arm's slices, and of the most confident mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Ints


@dataclass(frozen=True)
class Pictures:
    """Example slices of an arm, (n, side, side) uint8; ``stand_in`` and ``distance`` belong to ``dropped``."""

    kept: NDArray[np.uint8]
    dropped: NDArray[np.uint8]
    stand_in: NDArray[np.uint8]  #: empty where nothing stands for the dropped ones
    distance: NDArray[np.float32]


def write_pictures(path: Path, pictures: Pictures) -> None:
    """Write ``pictures.npz``."""
    with path.open("wb") as file:
        np.savez_compressed(file, **vars(pictures))


def read_pictures(path: Path) -> Pictures | None:
    """Read ``pictures.npz``; None where there is none."""
    if not path.exists():
        return None
    with np.load(path, allow_pickle=False) as stored:
        return Pictures(stored["kept"], stored["dropped"], stored["stand_in"], stored["distance"])


#: By task: rows of its prediction tables (m,), counted from 1, and their images (m, side, side).
Mistakes = Mapping[str, tuple[Ints, NDArray[np.uint8]]]


def write_mistakes(path: Path, mistakes: Mistakes) -> None:
    """Write ``mistakes.npz``."""
    arrays: dict[str, NDArray[Any]] = {}
    for task, (rows, images) in mistakes.items():
        arrays |= {f"{task}/rows": rows, f"{task}/images": images}
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy takes other keywords too


def read_mistakes(path: Path) -> Mistakes:
    """Read ``mistakes.npz``; {} where there is none."""
    if not path.exists():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        tasks = [name.removesuffix("/rows") for name in stored.files if name.endswith("/rows")]
        return {task: (stored[f"{task}/rows"], stored[f"{task}/images"]) for task in tasks}
