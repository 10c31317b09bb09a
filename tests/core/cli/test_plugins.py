"""``ctkit list-plugins`` and ``describe``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

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


def test_a_plugin_is_described_by_its_name_alone(command: Run) -> None:
    assert command("describe", "hash") == command("describe", "reducer", "hash")
    assert command("describe", "ctkit-ssl:hash")[1].startswith("reducer hash (ctkit-ssl ")


def test_what_describe_cannot_find_is_said(command: Run) -> None:
    assert "there is no plugin 'hahs'; did you mean 'hash'?" in command("describe", "hahs")[2]
    assert "there is no task 'hash': it is a reducer" in command("describe", "task", "hash")[2]
    assert (
        "describe needs a kind and a name, but got 'redcer' first; did you mean 'reducer'?"
        in (command("describe", "redcer", "hash")[2])
    )


def test_the_files_that_a_pipeline_names_are_listed(command: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ctkit.contracts import NoParams, Reducer\n"
        'class Mine(Reducer[NoParams]):\n    """Keeps."""\n    def select(self, group, at, rng): ...\n'
        'class Half(Reducer[NoParams]):\n    """Lacks select."""\n'
    )
    file = tmp_path / "p.toml"
    file.write_text('[[reduce]]\nuse = "hash"\n[[reduce]]\nuse = "mine.py:Mine"\n[[reduce]]\nuse = "./mine.py:Half"\n')
    entries = json.loads(command("list-plugins", "--file", str(file), "--json")[1])
    found = {entry["name"]: entry for entry in entries if entry["distribution"] == "mine.py"}
    assert {name: entry["status"] for name, entry in found.items()} == {"Mine": "ok", "Half": "ok"}
    code, out, err = command("list-plugins", "--file", str(file), "--kind", "reducer", "--check", "--json")
    assert code == 1
    broken = [entry for entry in json.loads(out) if entry["status"] == "broken"]
    assert [(entry["name"], entry["error"]) for entry in broken] == [
        ("Half", "Half: must implement the contract of a reducer but lacks select; add them")
    ]
    assert err.startswith("ctkit: 1 of ")
    assert command("list-plugins", "--check", "--kind", "reducer")[0] == 0


def test_no_words_print_the_help(command: Run) -> None:
    code, out, _ = command()
    assert code == 0
    assert out == command("--help")[1]
    assert len(out.splitlines()) > 20


def test_a_folder_that_is_not_there_cannot_be_cleaned(command: Run) -> None:
    assert command("clean", "nope")[::2] == (
        2,
        "ctkit: there is no folder nope; give the folder that contains the runs\n",
    )
