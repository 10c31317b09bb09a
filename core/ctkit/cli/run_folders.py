"""``ctkit runs`` and ``ctkit clean``: the folders of runs, and the cache beside them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ctkit.cli import completion
from ctkit.errors import RequestError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, the youngest first: how each stands, how long ago it was started, its size."""
    from ctkit.cli import listing
    from ctkit.console import Console, quantities
    from ctkit.storage import KINDS, Cache

    found = listing.runs_in(folder)
    console = Console(as_json=as_json)
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
@click.option("--older-than", metavar="AGE", help="Free what was not used for so long: 12h, 30d, 8w.")
@click.option(
    "--keep-below", metavar="SIZE", help="Free what was not used for longest until the cache takes so much: 50GB."
)
@click.option("--run", "run_", metavar="NAME", shell_complete=completion.runs, help="Free what only this run uses.")
@click.option("--dry-run", is_flag=True, help="Say what would be freed; free nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def clean(
    folder: Path, older_than: str | None, keep_below: str | None, run_: str | None, dry_run: bool, yes: bool
) -> None:
    """Free the cache beside the runs in FOLDER, after saying what would go and asking.

    What killed writers left goes always; what a live run uses never goes. Run folders stay as they are, and what is
    freed is made again when a run needs it. A file that a run folder has too, by hard link, takes no room of its own:
    it does not count for --keep-below, and goes with --run.
    """
    from ctkit.cli import cleaning
    from ctkit.console import Console, size
    from ctkit.storage import Cache, spelled_one_way

    cache = Cache.beside(folder / "any").folder
    wish = cleaning.Wish(
        older_than=cleaning.parse_age(older_than) if older_than else None,
        keep_below=cleaning.parse_size(keep_below) if keep_below else None,
        run=spelled_one_way(folder / run_) if run_ else None,
    )
    planned = cleaning.plan(cache, wish)
    console = Console()
    if planned.spared:
        console.say(f"{planned.spared} entries are in use by a live run and stay")
    if planned.shared:
        console.say(
            f"{size(planned.shared)} stay and do not count: run folders hold the same files, so that no room is gained"
        )
    if not planned.entries:
        console.say(f"nothing to free in {cache}" + ("" if any(vars(wish).values()) else "; see ctkit clean --help"))
        return
    console.table(("what", "entries", "size"), [(kind, count, size(bytes_)) for kind, count, bytes_ in planned.by_kind])
    if dry_run or not (yes or _agreed(f"Free {size(planned.size)} in {cache}?")):
        return
    freed = cleaning.free(planned)
    console.say(f"{size(freed)} freed" + ("; the rest was used meanwhile and stays" if freed < planned.size else ""))


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise RequestError("there is no terminal to ask on; say --yes to free it, or --dry-run to look only")
    return click.confirm(question)
