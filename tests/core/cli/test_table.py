"""The table of commands: lazy, complete, and open to plugins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import click
import pytest
from click.shell_completion import ShellComplete

from ctkit import plugins
from ctkit.cli import table
from ctkit.hookspecs import COMMANDS
from ctkit.plugins import Entry

Run = Callable[..., tuple[int, str, str]]
Announce = Callable[..., None]


@click.command()
@click.argument("words", nargs=-1)
def greet(words: tuple[str, ...]) -> None:
    """Greet. Not on Sundays."""
    click.echo(f"hello {' '.join(words)}")


@pytest.fixture
def announce(monkeypatch: pytest.MonkeyPatch) -> Announce:
    """Make plugins seem to announce commands: names, each of the distribution ``d`` unless it says another."""

    def _announce(*entries: Entry) -> None:
        claimed = [*plugins.load().entries, *entries]
        found = [plugins.registry._marked(entry, claimed) for entry in claimed]
        monkeypatch.setattr(plugins.load(), "entries", found)

    return _announce


def entry(name: str, distribution: str = "d", target: str = f"{__name__}:greet") -> Entry:
    return Entry("command", name, "Greet.", distribution, "1", target)


def test_the_core_s_commands_are_those_that_plugins_are_told_of() -> None:
    assert tuple(table.COMMANDS) == COMMANDS


@pytest.mark.parametrize("name", [name for name in table.summaries() if ":" not in name])
def test_a_summary_is_the_first_sentence_of_the_command_s_help(name: str) -> None:
    found = table.find(name)
    assert found is not None
    assert found.name == name
    sentence = table.summaries()[name]
    assert " ".join((found.help or "").split()).startswith(sentence)
    assert sentence.endswith(".")


def test_help_shows_every_command_and_imports_none() -> None:
    code = """
import atexit, sys
atexit.register(lambda: print("imported:", *sys.modules, file=sys.stderr))
from ctkit.cli import main
main(["--help"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown = {line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line[2:3].strip()}
    assert shown == set(table.summaries())
    modules = {target.partition(":")[0] for target in (spec.target for spec in table.COMMANDS.values())}
    modules |= {found.target.partition(":")[0] for found in plugins.load().of_kind("command")}
    imported = set(done.stderr.rpartition("imported:")[2].split())
    assert imported & modules == set()
    assert "ctkit.cli.table" in imported


def test_a_command_of_a_plugin_is_shown_called_and_completed(announce: Announce, command: Run) -> None:
    announce(entry("greet"))
    assert "  greet          Greet.\n" in command("--help")[1]
    assert command("greet", "you") == (0, "hello you\n", "")
    assert "Not on Sundays." in command("greet", "--help")[1]
    offered = ShellComplete(table.cli, {"obj": {}}, "ctkit", "_CTKIT_COMPLETE").get_completions([], "gr")
    assert [(item.value, item.help) for item in offered] == [("greet", "Greet.")]
    assert "there is no command 'gret'; did you mean 'greet'?" in command("gret")[2]


def test_a_command_that_two_claim_is_called_with_its_distribution(announce: Announce, command: Run) -> None:
    announce(entry("greet", "one"), entry("greet", "two"))
    code, _, err = command("greet")
    assert code == 2
    assert err == "ctkit: command 'greet' is registered by 2 distributions: write ctkit one:greet or ctkit two:greet\n"
    assert command("two:greet", "you")[1] == "hello you\n"
    assert "  one:greet " in command("--help")[1]


def test_a_plugin_takes_no_command_of_the_core(announce: Announce, command: Run) -> None:
    announce(entry("schema"))
    assert command("schema")[1].startswith("{")
    assert command("d:schema", "you")[1] == "hello you\n"
    shown = command("list-plugins", "--kind", "command")[1]
    assert "[clash] also registered by ctkit's core: write ctkit d:schema\n" in shown


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("ctkit_nowhere:x", "command 'greet' of d: ctkit_nowhere:x cannot be imported: ModuleNotFoundError"),
        (
            "fractions:Fraction",
            "command 'greet' of d: fractions:Fraction must be a command but is <class 'fractions.Fraction'>;",
        ),
    ],
)
def test_a_command_that_cannot_be_loaded_is_named_with_its_fault(
    announce: Announce, command: Run, target: str, message: str
) -> None:
    announce(entry("greet", target=target))
    code, _, err = command("greet")
    assert code == 2
    assert message in err
    assert command("validate", "--help")[0] == 0


def test_a_broken_command_is_shown_with_its_error(announce: Announce, command: Run) -> None:
    announce(Entry("command", "greet", "Greet.", "d", "1", "x:y", "broken", "there is no module x"))
    assert "[broken] there is no module x" in command("--help")[1]
    assert command("greet")[2] == "ctkit: command 'greet' of d is broken: there is no module x\n"
