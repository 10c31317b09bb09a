"""``ctkit runs`` and ``ctkit clean``: the folders of runs, and the cache beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ctkit.cli import completion
from ctkit.cli.options import json_output
from ctkit.errors import RequestError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line, for scripts.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, the newest first, with state, age and size."""
    from ctkit.cli import listing
    from ctkit.console import Console, quantities
    from ctkit.storage import KINDS, Cache

    found = listing.runs_in(folder)
    console = Console(as_json=as_json, output=json_output())
    if as_json:
        rows: list[tuple[object, ...]] = [(run.path.name, run.state, round(run.age), run.size) for run in found]
        console.table(("run", "state", "age_seconds", "bytes"), rows)
        return
    shown = [(run.path.name, run.state, quantities.age(run.age), quantities.size(run.size)) for run in found]
    console.table(("run", "state", "age", "size"), shown)
    cache = Cache.beside(folder / "any").folder
    held = sum(listing.occupied(cache / kind) for kind in KINDS)
    console.say(f"cache: {quantities.size(held)} in {cache}; to free it: ctkit clean")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--older-than", metavar="AGE", help="Free results not used for this time: 12h, 30d, 8w.")
@click.option("--keep-below", metavar="SIZE", help="Free least recently used results down to this size: 50GB.")
@click.option("--run", "run_", metavar="NAME", shell_complete=completion.runs, help="Free results of this run only.")
@click.option("--dry-run", is_flag=True, help="Print what would be freed; free nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
def clean(
    folder: Path, older_than: str | None, keep_below: str | None, run_: str | None, dry_run: bool, yes: bool
) -> None:
    """Free space in the cache beside the runs in FOLDER, after confirmation.

    Incomplete files of killed processes are always removed; results of an active run never are. Run folders are not
    changed, and a removed result is rebuilt when a run needs it. A file that a run folder shares by hard link needs no
    extra space: it does not count for --keep-below, and is removed only with --run.
    """
    from ctkit.cli import cleaning
    from ctkit.console import Console, size
    from ctkit.storage import Cache, spelled_one_way

    if folder != Path("runs") and not folder.is_dir():
        raise RequestError(f"there is no folder {folder}; give the folder that contains the runs")
    cache = Cache.beside(folder / "any").folder
    wish = cleaning.Wish(
        older_than=cleaning.parse_age(older_than) if older_than else None,
        keep_below=cleaning.parse_size(keep_below) if keep_below else None,
        run=spelled_one_way(folder / run_) if run_ else None,
    )
    planned = cleaning.plan(cache, wish)
    console = Console()
    if planned.spared:
        console.say(f"{planned.spared} entries are in use by an active run and are kept")
    if planned.shared:
        console.say(f"{size(planned.shared)} are kept and do not count: run folders have the same files")
    if not planned.entries:
        console.say(f"nothing to free in {cache}" + ("" if any(vars(wish).values()) else "; see ctkit clean --help"))
        return
    console.table(("what", "entries", "size"), [(kind, count, size(bytes_)) for kind, count, bytes_ in planned.by_kind])
    if dry_run or not (yes or _agreed(f"Free {size(planned.size)} in {cache}?")):
        return
    freed = cleaning.free(planned)
    console.say(f"{size(freed)} freed" + ("; the rest is in use now and is kept" if freed < planned.size else ""))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise RequestError("no terminal to ask for confirmation; add --yes to free, or --dry-run to only look")
    return click.confirm(question)
