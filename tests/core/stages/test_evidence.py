"""Evidence as reducers get it: in memory or, where it is large, mapped; the choice is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ctkit.contracts import Group
from ctkit.errors import PluginError
from ctkit.stages import evidence
from ctkit.stages.evidence import Evidence
from ctkit.stages.scan import scan

ARMS = [
    {"use": "hash", "id": "volume", "threshold": 6},
    {"use": "hash", "id": "patient", "threshold": 6, "scope": "patient"},
    {"use": "hash", "id": "dataset", "threshold": 6, "scope": "dataset"},
    {"use": "hash", "id": "budget", "scope": "dataset", "keep": {"count": 5}},
    {
        "id": "two",
        "steps": [{"use": "every-n", "n": 3}, {"use": "hash", "threshold": 12, "scope": "dataset"}],
    },
]


@pytest.mark.parametrize("published", [False, True], ids=["in order", "in an order of its own"])
def test_what_is_chosen_does_not_depend_on_how_much_is_held_in_memory(start, chosen, monkeypatch, published) -> None:
    groups: list[Group] = []
    held, mapped = [], []
    for limit, found in ((evidence.HELD, held), (40, mapped)):
        monkeypatch.setattr(evidence, "HELD", limit)
        session = start(reduce=ARMS, run={"name": "x", "seed": limit})
        data = chosen(session)
        if published:
            rank = np.random.default_rng(0).permutation(len(data.table))
            data = _with_rank(data, rank)
        given = Evidence(session, data)
        for arm in session.arms:
            for choice in given.choices(arm):
                for slices in data.table.groups(choice.scope) if choice.reducer.evidence != "none" else ():
                    found.append(choice.evidence(slices))
                    groups.append(slices)
    assert len(held) == len(mapped) > 4
    assert all(np.array_equal(one, other) for one, other in zip(held, mapped, strict=True))
    assert all(one.flags.writeable for one in held), "a reducer may sort its own in place"
    assert any(one.nbytes > 40 for one in mapped)
    assert all(type(one) is np.ndarray and not one.flags.writeable for one in mapped if one.nbytes > 40)


def _with_rank(data: Any, rank: Any) -> Any:
    from dataclasses import replace

    return replace(data, table=replace(data.table, rank=rank, _groups={}))


def test_selections_are_the_same_where_evidence_is_mapped(start, chosen, monkeypatch, tmp_path) -> None:
    def run() -> list[Any]:
        selections = chosen(start(reduce=ARMS)).selections
        return [(key, one.selection.kept.tolist(), one.selection.by.tolist()) for key, one in selections.items()]

    expected = run()
    for path in sorted((tmp_path / "runs" / ".cache" / "selection").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    monkeypatch.setattr(evidence, "HELD", 40)
    assert run() == expected
    assert 0 < sum(expected[3][1]) < len(expected[3][1])
    assert not [path for path in (tmp_path / "runs" / ".cache").iterdir() if path.name.startswith("tmp")]


@pytest.mark.parametrize(("dtype", "width"), [(np.uint8, 3), (np.float32, 2)])
def test_evidence_of_different_kinds_is_an_error(start, chosen, monkeypatch, dtype, width) -> None:
    session = start(reduce=ARMS[:1])
    given, (arm,) = Evidence(session, chosen(session)), session.arms
    found = {0: np.zeros((1, 2), np.uint8), 1: np.zeros((1, width), dtype)}
    monkeypatch.setattr(given, "_load", lambda reducer, volume: found[volume])
    with pytest.raises(PluginError, match=r"^reducer '.*': evidence must be of one .* is uint8 \(2,\) for each"):
        given._all(arm.steps[0])


def test_a_digest_of_all_volumes_is_made_once_for_all_arms(start, chosen, monkeypatch) -> None:
    session = start(reduce=ARMS[:3])
    data = chosen(session)
    given, asked = Evidence(session, data), []
    monkeypatch.setattr(type(data.catalogue), "address", lambda self, number: asked.append(number) or "a")
    before = [given.identities(arm) for arm in session.arms]
    assert len(before) == 3
    assert asked == [0, 1]
    assert len(scan(session).catalogue) == 2
