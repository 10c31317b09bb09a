"""The options that say how a command prints and logs, and the console that a command gets for them."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ctkit import output_options
from ctkit.console import Console

seen: list[Console] = []


@click.command()
@click.argument("word")
@output_options
def say(word: str, console: Console) -> None:
    """Say a word."""
    seen.append(console)
    console.say(word)


@click.command()
@output_options
@click.pass_context
def twice(context: click.Context, console: Console) -> None:
    """Say a word by another command."""
    context.invoke(say, word="again", console=console)
    assert seen[-1] is console


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        ([], "hello\n"),
        (["--json"], '{"event": "message", "text": "hello"}\n'),
        (["--quiet"], ""),
    ],
    ids=["plain", "json", "quiet"],
)
def test_a_command_gets_a_console_that_prints_as_asked(words: list[str], printed: str) -> None:
    done = CliRunner().invoke(say, ["hello", *words])
    assert (done.exit_code, done.output) == (0, printed)


@pytest.mark.parametrize(
    ("words", "debug", "log", "holds"),
    [
        (["--log-json"], False, "run.jsonl", False),
        (["-v"], False, "run.log", False),
        (["-vv"], False, "run.log", True),
        ([], True, "run.log", True),
    ],
    ids=["as json", "verbose", "very verbose", "--debug"],
)
def test_a_command_s_console_logs_as_asked(
    tmp_path: Path, words: list[str], debug: bool, log: str, holds: bool
) -> None:
    CliRunner().invoke(say, ["hello", *words], obj={"debug": debug})
    with seen[-1].log_to(tmp_path / "run.log"):
        logging.getLogger("ctkit.test").debug("a detail")
    assert ("a detail" in (tmp_path / log).read_text()) is holds


def test_a_command_that_invokes_another_passes_its_console_on() -> None:
    done = CliRunner().invoke(twice, ["--json"])
    assert (done.exit_code, done.output) == (0, '{"event": "message", "text": "again"}\n')


def test_the_options_are_told_in_the_help() -> None:
    shown = CliRunner().invoke(say, ["--help"]).output
    assert [option for option in ("--json", "-q, --quiet", "-v, --verbose", "--log-json") if option not in shown] == []
