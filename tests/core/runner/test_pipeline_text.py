"""Pipeline files as text: lines of keys, encodings, line ends, and what is not TOML."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.errors import ConfigError, RequestError
from ctkit.runner import pipeline_text
from ctkit.runner.pipeline_text import line_of

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


GOOD = '[run]\nname = "test"\n\n[dataset]\nuse = "phantom"\n\n[[reduce]]\nuse = "all"\n'


@pytest.mark.parametrize(
    "data",
    [GOOD.encode("utf-8-sig"), GOOD.replace("\n", "\r\n").encode(), GOOD.replace("\n", "\r\n").encode("utf-8-sig")],
    ids=["byte-order mark", "CRLF", "both"],
)
def test_a_file_of_a_windows_editor_is_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.toml").write_bytes(data)
    assert pipeline_text.load(tmp_path / "p.toml", plugins.load()).run.name == "test"


def test_the_lines_of_a_file_of_a_windows_editor_are_right(tmp_path: Path) -> None:
    text = (
        GOOD.replace("all", "al").replace("\n", "\r\n").replace("test", "Überfluss\u2028").replace("[run]", "[run] #")
    )
    (tmp_path / "p.toml").write_bytes(text.encode("utf-8-sig"))
    with pytest.raises(ConfigError) as caught:
        pipeline_text.load(tmp_path / "p.toml", plugins.load())
    assert [mistake.split("p.toml:")[1][:2] for mistake in caught.value.mistakes] == ["2:", "8:"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_another_encoding_is_named_with_what_to_do(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "p.toml").write_bytes(GOOD.replace("[run]", "[run]  # Größe").encode(encoding))
    with pytest.raises(RequestError, match="save (it|the file) as UTF-8"):
        pipeline_text.load(tmp_path / "p.toml", plugins.load())


def test_a_path_in_single_quotes_or_with_slashes_is_taken_as_it_is(tmp_path: Path) -> None:
    for path in (r"'D:\runs\new'", '"D:/runs/new"', r'"D:\\runs\\new"'):
        (tmp_path / "p.toml").write_text(GOOD.replace('"test"', f'"test"\nout = {path}'))
        out = pipeline_text.load(tmp_path / "p.toml", plugins.load()).run.out
        assert str(out).replace("\\", "/") == "D:/runs/new"
