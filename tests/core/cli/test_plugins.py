"""``ctkit list-plugins`` and ``describe``."""

from __future__ import annotations

import json
from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]


def test_plugins_are_listed_as_objects(command: Run) -> None:
    _, out, _ = command("list-plugins", "--json")
    entries = json.loads(out)
    assert {"kind", "name", "summary", "distribution", "version", "status", "error"} <= set(entries[0])
    assert {"hash", "phantom", "simclr", "image-folder", "linear"} <= {entry["name"] for entry in entries}


def test_plugins_are_listed_by_kind(command: Run) -> None:
    _, out, _ = command("list-plugins", "--kind", "reducer")
    assert {line.split()[0] for line in out.splitlines()} == {"reducer"}


def test_a_plugin_is_described_with_its_parameters_and_knob(command: Run) -> None:
    _, out, _ = command("describe", "reducer", "hash")
    assert "threshold  integer 0..256, default 6" in out
    assert "bits; or set by a budget, keep" in out
    assert "bits  64 | 256, default 64" in out


def test_a_plugin_gives_the_schema_of_its_parameters(command: Run) -> None:
    _, out, _ = command("describe", "dataset", "phantom", "--json")
    assert "patients" in json.loads(out)["properties"]
