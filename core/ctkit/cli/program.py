"""The program ``ctkit``: it calls one command of the table, and turns whatever comes of it into an exit code."""

from __future__ import annotations

import os
import sys
import traceback
from typing import NoReturn

import click

from ctkit import stopping
from ctkit.cli.other_project import other_project
from ctkit.cli.table import cli
from ctkit.errors import ConfigError, CtkitError


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 a wrong request, 130 or 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    if (warning := other_project()) and "_CTKIT_COMPLETE" not in os.environ:
        click.echo(f"ctkit: {warning}", err=True)
    try:
        plain = [word for word in words if word != "--debug"]
        code = cli.main(args=plain, prog_name="ctkit", standalone_mode=False, obj={"debug": debug})
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
    except Exception as error:  # whatever it is, the user gets one line, and the rest with --debug
        if debug:
            traceback.print_exc()
        _fail(f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", code=1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(*messages: str, code: int) -> NoReturn:
    for message in messages:
        click.echo(f"ctkit: {' '.join(message.split())}", err=True)
    sys.exit(code)
