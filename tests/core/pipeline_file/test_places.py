"""Places of keys in a TOML text."""

from __future__ import annotations

import pytest

from ctkit.pipeline_file.places import line_of, show

TEXT = """\
[run]
name = "a"

[[reduce]]
use = "all"

[[reduce]]  # second
id = "two"
[[reduce.steps]]
use = "entropy"
[[reduce.steps]]
use = "hash"
threshold = 6

[dataset]
"size" = 64
keep.share = 0.5
include = [
  ["a", "[run]"],  # ]
  [0.5]
]
note = '''
[run]
name = "no"
'''
[ "compute" ]
device = "x"
"""


@pytest.mark.parametrize(
    ("location", "line"),
    [
        (("run", "name"), 2),
        (("reduce", 0, "use"), 5),
        (("reduce", 1, "id"), 8),
        (("reduce", 1, "steps", 1, "threshold"), 13),
        (("dataset", "size"), 16),
        (("dataset", "keep", "share"), 17),
        (("dataset", "root"), 15),
        (("dataset", "include", 0), 18),
        (("dataset", "note"), 22),
        (("compute", "device"), 27),
        (("pretrain",), 0),
        ((), 0),
    ],
    ids=str,
)
def test_a_key_or_its_nearest_table_is_found(location: tuple[str | int, ...], line: int) -> None:
    assert line_of(TEXT, location) == line


def test_a_location_is_shown_as_a_person_writes_it() -> None:
    assert show(("reduce", 1, "steps", 0, "threshold")) == "reduce[1].steps[0].threshold"
