"""What one decode of a volume leaves, whether the pixels come a few slices at a time or all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from ctkit import pipeline_file, plugins
from ctkit.contracts import Slices
from ctkit.pipeline_file import Pipeline
from ctkit.slices import Packs
from ctkit.stages.decoding import Wanted, describe_volumes, keep, write_kept
from ctkit.stages.readings import read_reading
from ctkit.storage import Cache
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_reducers.entropy import Entropy
from ctkit_reducers.hash import Hash
from phantom_files import write_dicom

SIDE = 32
AT = "a" * 64


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    """Arms of two reducers that look at single slices, on DICOM with a repeated and a constant slice."""
    params = PhantomParams(patients=1, slices=12, slice_spacing=20, matrix=SIDE)
    paths = write_dicom(tmp_path / "data", Phantom(params))
    for path, pixels in ((paths[7], pydicom.dcmread(paths[3]).PixelData), (paths[9], bytes(2 * SIDE * SIDE))):
        data = pydicom.dcmread(path)
        data.PixelData = pixels
        data.save_as(path)
    document = {
        "run": {"name": "blocks"},
        "dataset": {"use": "dicom", "root": str(tmp_path / "data")},
        "reduce": [{"use": "hash"}, {"use": "entropy", "threshold": 1}],
    }
    return pipeline_file.resolve(document, plugins.load(), tmp_path)


def described(pipeline: Pipeline, folder: Path) -> tuple[list[str], dict[str, bytes | None]]:
    """What went wrong, and the results that were written."""
    dataset, cache = pipeline.dataset.build(), Cache(folder)
    (volume,) = dataset.arrange((file, dataset.inspect(file)) for file in dataset.files())
    item = Wanted(0, AT, volume, None, tuple(arm.steps[0].reducer for arm in pipeline.arms))
    (found,), _ = describe_volumes(pipeline.dataset, cache, pipeline.rendering, [item])
    keep(cache, item, found)
    write_kept(cache)
    written = {kind: Packs(Cache(folder), kind) for kind in ("evidence", "reading")}
    results = {f"{kind}/{name}": packs.read(name) for kind, packs in written.items() for name in packs._places}
    return [failure.reason for failure in found.failures], results


@pytest.mark.parametrize("slices", [1, 3, 100])
def test_blocks_leave_the_same_entries_as_whole_volumes(
    slices: int, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit_datasets.dicom_pixels._BLOCK", slices * SIDE * SIDE)
    seen: list[int] = []
    describe = Hash.describe
    monkeypatch.setattr(Hash, "describe", lambda self, part: seen.append(len(part.index)) or describe(self, part))
    blocks = described(pipeline, tmp_path / "blocks")
    assert max(seen) == min(slices, 10)
    monkeypatch.setattr(Entropy, "by_slice", False)  # of one reducer is enough
    assert blocks == described(pipeline, tmp_path / "whole")
    assert len(blocks[1]) == 3
    reading = read_reading(Cache(tmp_path / "blocks"), AT)
    assert reading is not None
    assert len(reading.skipped) == 2


def test_a_reducer_that_fails_in_a_block_leaves_nothing_and_the_other_all(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = described(pipeline, tmp_path / "whole")[1]
    monkeypatch.setattr("ctkit_datasets.dicom_pixels._BLOCK", 2 * SIDE * SIDE)

    def fail(self: Hash, slices: Any) -> Any:
        if 5 in slices.index:
            raise ValueError("not today")
        return np.zeros((len(slices.index), 1), np.uint64)

    monkeypatch.setattr(Hash, "describe", fail)
    (reason,), entries = described(pipeline, tmp_path / "blocks")
    assert reason.startswith("reducer 'hash' failed to describe a volume: ValueError: not today (volume ")
    assert len(entries) == 2
    assert entries.items() < whole.items()


@pytest.mark.parametrize("name", ["grey", "hu", "index"])
def test_a_reducer_cannot_change_what_others_see(
    name: str, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = described(pipeline, tmp_path / "before")

    def describe(self: Hash, slices: Slices) -> Any:
        getattr(slices, name)[:] = 1
        return slices.index

    monkeypatch.setattr(Hash, "describe", describe)
    (reason,), left = described(pipeline, tmp_path / "after")
    assert "reducer 'hash' failed to describe a volume: ValueError: assignment destination is read-only" in reason
    assert len(left) == 2
    assert left.items() <= whole.items()
