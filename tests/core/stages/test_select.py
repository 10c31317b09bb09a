"""What select writes and remembers: selections by address, arms that draw, and arms sized like others."""

from __future__ import annotations

import csv
import gzip
import io
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ctkit import redaction
from ctkit.contracts import Ints
from ctkit.errors import DataError
from ctkit.files import read_csv, read_json
from ctkit.reader import RunArm
from ctkit.runner.order import outline
from ctkit.slices import Selection, Table
from ctkit.stages.describe import describe
from ctkit.stages.readings import Reading
from ctkit.stages.scan import scan
from ctkit.stages.select import chosen_before, is_of, numbered, too_few
from ctkit.storage import run_folder

DRAWN = [{"use": "hash", "id": "h", "threshold": 6}, {"use": "random", "id": "r", "keep": {"like": "h"}}]


def kept(data: Any, arm: str, seed: int | None = None) -> Ints:
    return np.flatnonzero(data.selections[arm, seed].selection.kept)


def test_an_arm_that_draws_has_a_selection_for_each_seed_of_the_size_of_the_other(start, chosen) -> None:
    session = start(reduce=DRAWN, run={"seeds": 2, "seed": 5})
    data = chosen(session)
    assert list(data.selections) == [("h", None), ("r", 5), ("r", 6)]
    size = len(kept(data, "h"))
    assert 0 < size < len(data.table)
    assert len(kept(data, "r", 5)) == len(kept(data, "r", 6)) == size
    assert kept(data, "r", 5).tolist() != kept(data, "r", 6).tolist()
    assert sorted(path.parent.name for path in session.folder.arm("r").path.rglob("selection.csv")) == [
        "draw-5",
        "draw-6",
    ]


def test_the_table_of_a_selection_says_what_was_chosen(start, chosen) -> None:
    session = start(reduce=DRAWN[:1])
    data = chosen(session)
    rows, selection = read_csv(session.folder.arm("h").selection(None)), data.selections["h", None].selection
    assert [row["kept"] == "true" for row in rows] == selection.kept.tolist()
    assert [int(row["index"]) for row in rows] == data.table.index.tolist() == [*range(8), *range(8)]
    assert [int(row["represented_by"] or -1) for row in rows] == selection.by.tolist()
    assert len({row["volume"] for row in rows}) == 2
    assert read_json(session.folder.arm("h").facts)["kept"] == selection.kept.sum()


def test_a_selection_of_many_slices_is_compressed_and_read_like_any_other(start, chosen, monkeypatch) -> None:
    session = start(reduce=DRAWN, run={"seeds": 2, "seed": 5})
    chosen(session)
    folders = [session.folder.arm(arm) for arm in ("h", "r")]
    plain = [path.read_bytes() for folder in folders for path in folder.selections]
    tables = [SimpleNamespace(**vars(RunArm(folder, {}).selection)) for folder in folders]
    monkeypatch.setattr(run_folder, "LARGE", 15)
    again = start(reduce=DRAWN, run={"seeds": 2, "seed": 5})
    chosen(again)
    again.folder.keep_only(again.folder.files(outline(again.pipeline)))
    packed = [path for folder in folders for path in folder.selections]
    assert [path.name for path in packed] == ["selection.csv.gz"] * 3, "no plain one stays beside it"
    assert [gzip.decompress(path.read_bytes()) for path in packed] == plain
    assert read_csv(packed[0]) == [*csv.DictReader(io.StringIO(plain[0].decode()))]
    for folder, table in zip(folders, tables, strict=True):
        assert repr(vars(RunArm(folder, {}).selection)) == repr(vars(table))
    before = packed[0].stat()
    chosen(start(reduce=DRAWN, run={"seeds": 2, "seed": 5}))
    assert packed[0].stat() == before, "it is not written again"
    again.folder.keep_only([])
    assert not any(path.exists() for path in packed)


def test_a_second_start_finds_the_selections_and_another_threshold_is_chosen_anew(start, chosen, noted) -> None:
    first = chosen(start(reduce=DRAWN[:1]))
    again = start(reduce=DRAWN[:1])
    assert np.array_equal(kept(chosen(again), "h"), kept(first, "h"))
    assert ("select", "h", True) in noted(again)
    other = start(reduce=[{**DRAWN[0], "threshold": 0}])
    assert len(kept(chosen(other), "h")) > len(kept(first, "h"))
    assert ("select", "h", False) in noted(other)


def test_only_what_is_cached_is_found_without_choosing(start, chosen) -> None:
    chosen(start(reduce=DRAWN[:1]))
    session = start(reduce=DRAWN)
    found = chosen_before(session, numbered(describe(session, scan(session))))
    assert list(found.selections) == [("h", None)], "the other arm was not chosen yet"


def test_the_facts_of_an_arm_tell_it_from_another_threshold_of_the_same_name(start, chosen) -> None:
    session = start(reduce=DRAWN[:1])
    chosen(session)
    facts = read_json(session.folder.arm("h").facts)
    (arm,), (other,) = session.arms, start(reduce=[{**DRAWN[0], "threshold": 3}]).arms
    assert is_of(facts, arm)
    assert not is_of(facts, other)


def test_where_no_slice_can_be_read_the_reason_is_said(start) -> None:
    session = start()
    data = describe(session, scan(session))
    dark = data.__class__(data.address, data.catalogue, data.skipped, [Reading.of_nothing(8, "it is dark")] * 2)
    with pytest.raises(DataError, match="no slice of 2 volumes can be read, for example: it is dark"):
        numbered(dark)


@pytest.mark.parametrize(
    ("left", "warned"),
    [
        pytest.param([4, 3, 2], "", id="enough, and a volume of two slices whole"),
        pytest.param([1, 3, 2], "keeps only one or two slices in 1 of 3 volumes; is that intended?", id="one slice"),
        pytest.param([2, 2, 1], "keeps only one or two slices in 2 of 3 volumes; is that intended?", id="two slices"),
        pytest.param(
            [1, 0, 1],
            "keeps no slice in 1 and only one or two slices in 1 of 3 volumes; is that intended?",
            id="no slice",
        ),
        pytest.param([0, 0, 0], "keeps no slice, so it cannot be trained on", id="nothing"),
    ],
)
def test_a_selection_that_hardly_leaves_a_slice_of_a_volume_is_warned_of(left: list[int], warned: str) -> None:
    had = [8, 8, 2]
    volume = np.repeat(np.arange(3), had)
    kept = np.concatenate([np.arange(many) < few for many, few in zip(had, left, strict=True)])
    table = Table(volume, np.arange(18), volume, None)
    found = too_few(table, Selection(kept, np.full(18, -1), np.full(18, np.nan, np.float32), 6.0))
    assert found.startswith(warned)
    assert bool(found) is bool(warned)


def test_the_warning_stays_with_the_run(start, chosen) -> None:
    session = start(reduce=[{**DRAWN[0], "threshold": 64}])
    chosen(session)
    texts = [note["text"] for note in session.provenance.notes]
    assert texts == ["h keeps only one or two slices in 2 of 2 volumes; is that intended?"]


def test_a_warning_of_a_draw_is_no_path_to_the_report(start, chosen) -> None:
    session = start(reduce=[{**DRAWN[0], "threshold": 64}, DRAWN[1]])
    chosen(session)
    _, text = [note["text"] for note in session.provenance.notes]
    assert re.match(r"r \(seed \d+\) keeps ", text)
    assert redaction.without_paths(text) == text
