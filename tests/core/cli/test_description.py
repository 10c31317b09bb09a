"""Plugins in words: nothing of their models is left out."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from ctkit.cli.description import describe_plugin
from ctkit.plugins.registry import KINDS, Entry, load

OURS = [entry for entry in load().entries if entry.distribution == "ctkit-ssl" and entry.kind in KINDS]


@pytest.fixture(scope="module")
def written(repository: Path) -> Callable[[list[Entry]], str]:
    return runpy.run_path(str(repository / "docs" / "hooks.py"))["plugin_reference"]


@pytest.fixture(scope="module")
def reference(written: Callable[[list[Entry]], str]) -> str:
    return written(OURS)


@pytest.mark.parametrize("entry", OURS, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_every_parameter_is_told_with_its_meaning(entry: Entry, written: Callable[[list[Entry]], str]) -> None:
    text, page = describe_plugin(entry), written([entry])
    assert f"### `{entry.name}`" in page
    for name, field in entry.load().params_type.model_fields.items():
        assert f"\n  {name}  " in text
        assert f"| `{name}` | " in page
        assert (field.description or "?") in text


@pytest.mark.parametrize(
    "row",
    [
        '| `modality` | array | ["CT"] | modalities to use |',
        "| `include` | array | [] | ",
        "| `max_volumes` | integer 1.. \\| none | none | ",
        "| `temperature` | number > 0 | 0.1 | ",
        "| `momentum` | number >= 0, &lt; 1 | 0.9 | ",
        "| `test_share` | number > 0, &lt; 1 | 0.2 | ",
        "| `checkpointing` | boolean | false | ",
    ],
)
def test_values_are_written_as_a_pipeline_file_has_them(reference: str, row: str) -> None:
    assert row in reference


def test_the_reference_has_a_heading_for_each_kind_and_plugin(reference: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(reference)
    headings = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type == "heading_open"]
    assert [heading for heading in headings if "`" not in heading] == [
        *("Data sets", "Reducers", "Methods", "Tasks", "Protocols", "Trackers"),
    ]
    assert {heading.strip("`") for heading in headings if "`" in heading} == {entry.name for entry in OURS}


def test_every_row_of_the_reference_has_four_cells(reference: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(reference)
    rows = [n for n, token in enumerate(tokens) if token.type == "tr_open"]
    cells = [sum(token.type in ("td_open", "th_open") for token in tokens[n : n + 13]) for n in rows]
    parameters = sum(len(entry.load().params_type.model_fields) for entry in OURS)
    tables = sum(bool(entry.load().params_type.model_fields) for entry in OURS)
    assert len(rows) == parameters + tables
    assert set(cells) == {4}
    assert all(tokens[n + 13].type == "tr_close" for n in rows)
