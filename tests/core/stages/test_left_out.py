from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctkit.contracts import Skipped
from ctkit.stages import left_out
from ctkit.stages.left_out import LeftOut, LeftOutWriter

NAMES = st.text(st.sampled_from("ab/. ,\"'\n\udcff"), min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, st.sampled_from(["too small", "no CT"])), max_size=30), st.integers(1, 10))
def test_what_is_left_out_comes_in_the_order_of_paths_however_little_is_held(
    rows: list[tuple[str, str]], held: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(left_out, "HELD", held)
        writer = LeftOutWriter(Path(name))
        for source, reason in rows:
            writer.add(Skipped(source, reason))
        writer.write()
        found = LeftOut(Path(name))
        assert [(skip.source, skip.reason) for skip in found] == sorted(rows)
        assert len(found) == len(rows)
        assert [path.name for path in Path(name).iterdir()] == ["skipped.csv"]
