"""What Tab offers, asked as the shells ask."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from ctkit.cli.table import cli


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two runs."""
    for name in ("lung", "lung-large"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        facts = {"pipeline": {"reduce": [{"id": "all"}, {"id": "hash6"}, {"id": "hash9"}]}}
        (tmp_path / "runs" / name / "run.json").write_text(json.dumps(facts))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def offered(*words: str) -> list[str]:
    """What follows the words; the last one may be begun."""
    *done, begun = words
    found = ShellComplete(cli, {"obj": {"debug": False}}, "ctkit", "_CTKIT_COMPLETE").get_completions(done, begun)
    return [item.value for item in found]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("exp",), ["explain", "export-slices"]),
        (("describe", "red"), ["reducer"]),
        (("describe", "reducer", "ha"), ["hash"]),
        (("describe", "protocol", ""), ["finetune", "knn", "linear"]),
        (("reduce", "--dataset", "ph"), ["phantom"]),
        (("init", "--method", "s"), ["simclr", "swav"]),
        (("run", "--until", "se"), ["select"]),
        (("curve", "runs/lung", "hash"), ["hash6", "hash9"]),
        (("clean", "--run", "lu"), ["lung", "lung-large"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_tab_offers_names(folder: Path, words: tuple[str, ...], names: list[str]) -> None:
    assert set(names) <= set(offered(*words))
    assert all(name.startswith(words[-1]) for name in offered(*words))


def test_tab_after_a_run_that_is_none_offers_nothing(folder: Path) -> None:
    assert offered("curve", "runs/none", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    environment = os.environ | {"_CTKIT_COMPLETE": f"{shell}_source"}
    done = subprocess.run([sys.executable, "-m", "ctkit"], env=environment, capture_output=True, text=True, check=False)
    if "not supported" in done.stderr:  # bash before 4.4, or no bash
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert "_CTKIT_COMPLETE" in done.stdout
    assert "ctkit" in done.stdout


def test_every_command_that_takes_a_plugin_offers_its_names() -> None:
    """No option named after a kind of plugin is left without."""
    context = click.Context(cli)
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            if parameter.name in ("dataset", "reducer", "reducers", "method", "task") and name != "clean":
                offers = parameter.shell_complete(click.Context(command, obj={}), "")
                assert offers, f"{name} --{parameter.name}"
