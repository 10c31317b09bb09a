"""How well two masks of a volume agree: the Dice coefficient, and the distance of their surfaces."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts import Bools


def measures(
    predicted: NDArray[np.uint8], truth: NDArray[np.uint8], classes: Sequence[str], spacing: Sequence[float]
) -> dict[str, float]:
    """Dice coefficient and HD95 in mm of each class but the first, the background, and before them their means.

    The masks (slices, rows, columns) hold class numbers, ``spacing`` apart in mm. A class that neither mask holds has a
    Dice coefficient of 1 and an HD95 of 0; one that a single mask holds has 0 and the diagonal of the volume, as in the
    BraTS challenges. So every volume counts in every class, whatever was predicted.
    """
    found = {
        name: agreement(predicted == number, truth == number, spacing) for number, name in enumerate(classes) if number
    }
    means = np.mean(list(found.values()), axis=0)
    each = {f"{metric}_{name}": pair[i] for name, pair in found.items() for i, metric in enumerate(("dice", "hd95"))}
    return {"dice": float(means[0]), "hd95": float(means[1])} | (each if len(found) > 1 else {})


def agreement(ours: Bools, theirs: Bools, spacing: Sequence[float]) -> tuple[float, float]:
    """Dice coefficient and HD95 in mm of two masks (slices, rows, columns).

    HD95 is the larger of two 95th percentiles: of the distances of each mask's surface voxels to the other's surface.
    """
    if not (ours.any() and theirs.any()):
        diagonal = float(np.linalg.norm(np.multiply(ours.shape, spacing)))
        return (0.0, diagonal) if ours.any() or theirs.any() else (1.0, 0.0)
    dice = 2 * np.count_nonzero(ours & theirs) / (np.count_nonzero(ours) + np.count_nonzero(theirs))
    return float(dice), _hd95(ours, theirs, spacing)


def _hd95(ours: Bools, theirs: Bools, spacing: Sequence[float]) -> float:
    from scipy.ndimage import binary_erosion, find_objects
    from scipy.spatial import KDTree

    (box,) = find_objects((ours | theirs).astype(np.int8))  # beyond it is no surface
    pair = [mask[box] for mask in (ours, theirs)]
    one, other = (np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(spacing) for mask in pair)
    return max(float(np.quantile(KDTree(there).query(here)[0], 0.95)) for here, there in ((one, other), (other, one)))
