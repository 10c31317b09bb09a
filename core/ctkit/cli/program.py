"""The program ``ctkit``: it calls one command of the table, and turns whatever comes of it into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import NoReturn, TextIO

import click

from ctkit import stopping
from ctkit.cli.other_project import other_project
from ctkit.cli.table import cli
from ctkit.errors import ConfigError, CtkitError, PluginError


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 a wrong request, 130 or 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    if (warning := other_project()) and "_CTKIT_COMPLETE" not in os.environ:
        click.echo(f"ctkit: {warning}", err=True)
    try:
        plain = [word for word in words if word != "--debug"] or ["--help"]
        with _output(words) as output:
            code = cli.main(
                args=plain, prog_name="ctkit", standalone_mode=False, obj={"debug": debug, "output": output}
            )
    except click.UsageError as error:
        _fail(error.format_message(), code=2)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:  # click makes an abort of an interrupt
        _fail("interrupted; run the same command again to resume", code=stopping.exit_code(error.__context__ or error))
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except CtkitError as error:
        if debug:
            traceback.print_exc()
        _fail(*(error.mistakes if isinstance(error, ConfigError) else [str(error)]), code=error.exit_code)
    except SystemExit:
        raise
    except BaseException as error:  # whatever it is, the user gets one line, and the rest with --debug
        if debug:
            traceback.print_exc()
        _fail(f"unexpected {PluginError.words_of(error)} (run again with --debug for the traceback)", code=1)
    sys.exit(code if isinstance(code, int) else 0)


@contextmanager
def _output(words: Sequence[str]) -> Iterator[TextIO]:
    """Yield where ctkit writes. If that is JSON, what plugins and native libraries print goes to standard error."""
    output = sys.stdout
    if "--json" not in words and words[:1] != ["schema"]:
        yield output
        return
    try:
        number = output.fileno()
    except (OSError, ValueError):  # none: a caller's own stream
        with redirect_stdout(sys.stderr):
            yield output
        return
    output.flush()
    with os.fdopen(os.dup(number), "w", encoding=output.encoding, errors=output.errors) as own:
        os.dup2(sys.stderr.fileno(), number)
        try:
            with redirect_stdout(sys.stderr):
                yield own
        finally:
            os.dup2(own.fileno(), number)


def _fail(*messages: str, code: int) -> NoReturn:
    for message in messages:
        click.echo(f"ctkit: {' '.join(message.split())}", err=True)
    sys.exit(code)
