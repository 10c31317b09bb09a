from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit.contracts import SourceFile
from ctkit_datasets import packed_groups
from ctkit_datasets.packed_groups import PackedGroups


@given(st.lists(st.tuples(st.sampled_from("abc"), st.lists(st.integers(), max_size=5))), st.integers(1, 12))
def test_groups_come_back_whole_and_in_order_however_few_items_wait_loose(
    additions: list[tuple[str, list[int]]], loose: int
) -> None:
    expected: dict[str, list[int]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_groups, "LOOSE", loose)
        groups: PackedGroups[str, int] = PackedGroups()
        for key, items in additions:
            groups.add(key, items)
            expected.setdefault(key, []).extend(items)
        assert list(groups) == list(expected)
        assert {key: groups.take(key) for key in groups} == expected
    assert not list(groups)


def test_items_that_wait_take_little_memory_though_groups_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_groups, "LOOSE", 1000)
    groups: PackedGroups[int, SourceFile] = PackedGroups()
    count = 20_000
    tracemalloc.start()
    for number in range(count):
        groups.add(number % 10, [SourceFile(f"{'study/' * 20}{number:06}.dcm", 526_000, 10**18 + number**3)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 60 * count, f"{held / count:.0f} bytes a file"
