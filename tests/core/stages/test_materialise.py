"""What materialise stores: the rows that some arm keeps, rendered as training sees them, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ctkit.errors import DataError
from ctkit.slices.rendering import training
from ctkit.slices.selection import Selection
from ctkit.stages.materialise import materialise, rows_in_store, rows_of, slice_store


def test_an_arms_rows_are_its_slices_as_training_sees_them(start, chosen) -> None:
    session = start()
    data = chosen(session)
    few = data.selections["few", None].selection
    data = materialise(session, data, [few])
    rows = rows_of(data.table, few, data.shards, 16)
    stored = np.stack([np.load(rows.shards[shard])[row] for shard, row in zip(rows.shard, rows.row, strict=True)])
    dataset, expected = session.pipeline.dataset.build(), []
    for number, volume in enumerate(data.catalogue):
        pixels = dataset.read(volume)
        index = data.table.index[few.kept & (data.table.volume == number)]
        expected.append(training(pixels.values, pixels.unit, "hu-window", 16)[index])
    np.testing.assert_array_equal(stored, np.concatenate(expected))
    assert rows.mean == pytest.approx(stored.mean() / 255)
    assert rows.std == pytest.approx(stored.std() / 255)
    assert rows.volume.tolist() == data.table.volume[few.kept].tolist()


def test_what_is_stored_is_not_stored_again_and_a_wider_wish_adds_to_it(start, chosen, noted) -> None:
    session = start()
    data = chosen(session)
    few, everything = (data.selections[name, None].selection for name in ("few", "all"))
    materialise(session, data, [few])
    materialise(session, data, [few])
    wide = materialise(session, data, [few, everything])
    assert [one for one in noted(session) if one[0] == "materialise"] == [
        ("materialise", "", False),
        ("materialise", "", True),
        ("materialise", "", False),
    ]
    assert {len(shard.index) for shard in wide.shards.values()} == {8}


def test_rows_that_are_stored_no_more_are_not_made_up(start, chosen) -> None:
    session = start()
    data = chosen(session)
    few, store = data.selections["few", None].selection, slice_store(session)
    assert rows_in_store(store, session, data, few) is None
    materialise(session, data, [few])
    found = rows_in_store(store, session, data, few)
    assert found is not None
    assert len(found) == few.kept.sum()


def test_an_arm_that_keeps_nothing_has_no_rows(start, chosen) -> None:
    session = start()
    data = chosen(session)
    nothing = replace(Selection.everything(len(data.table)), kept=np.zeros(len(data.table), bool))
    data = materialise(session, data, [nothing])
    assert data.shards == {}
    assert len(rows_of(data.table, nothing, data.shards, 16)) == 0


def test_slices_that_cannot_be_read_a_second_time_end_the_run(start, chosen, monkeypatch) -> None:
    session = start()
    data = chosen(session)
    monkeypatch.setattr("ctkit.stages.materialise._store_volume", lambda *_: None)
    with pytest.raises(DataError, match="slices of 2 volumes could not be read a second time; were files changed?"):
        materialise(session, data, [data.selections["few", None].selection])
