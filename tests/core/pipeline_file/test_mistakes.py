"""Wrong pipeline files: every mistake of each is said at once, and the schema refuses what a schema can.

``wrong_files.txt`` holds the files, each with who refuses it and, after ``---``, all that is said of it, line by line.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from ctkit import plugins
from ctkit.cli.schema import pipeline_schema
from ctkit.errors import ConfigError
from ctkit.runner import pipeline_text

WRONG = [
    pytest.param(*who_and_text.partition("\n")[::2], said.strip("\n").split("\n"), id=name)
    for block in (Path(__file__).parent / "wrong_files.txt").read_text().removeprefix("=== ").split("\n=== ")
    for name, _, rest in [block.partition(" | ")]
    for who_and_text, _, said in [rest.partition("---\n")]
]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(pipeline_schema(plugins.load()))


@pytest.mark.parametrize(("who", "text", "said"), WRONG)
def test_every_mistake_is_said_at_once(
    tmp_path: Path, schema: Draft202012Validator, who: str, text: str, said: list[str]
) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        pipeline_text.load(file, plugins.load())
    found = [mistake.removeprefix(f"{file}:").replace(f"{tmp_path}/", "") for mistake in caught.value.mistakes]
    assert [re.sub("valid: [a-z-]+, .*phantom", "valid: ...", line) for line in found] == said  # whatever is installed
    if who != "not TOML":
        assert schema.is_valid(tomllib.loads(text)) == (who == "only a run")


def test_enough_is_wrong() -> None:
    assert len(WRONG) >= 60
    assert sum(len(case.values[2]) > 1 for case in WRONG) >= 20


def test_mistakes_are_sorted_by_line_whoever_finds_them() -> None:
    lines = [
        [int("0" + said.partition(":")[0].strip(" abcdefghijklmnopqrstuvwxyz")) for said in case.values[2]]
        for case in WRONG
    ]
    assert all(numbers == sorted(numbers) for numbers in lines)
