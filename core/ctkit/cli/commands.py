"""The ``ctkit`` command. Each command reads its words, calls one function of the core, and prints the answer."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, get_args

import click

from ctkit import hookspecs, stopping
from ctkit.cli import completion
from ctkit.cli.completion import plugins_of
from ctkit.errors import CtkitError, RequestError, nearest
from ctkit.hookspecs import STAGES, Kind

if TYPE_CHECKING:
    from ctkit.console import Console
    from ctkit.plugins import Entry, Registry
    from ctkit.session import Only

KINDS = get_args(Kind)
LISTED = (*KINDS, "tracker")  #: what list-plugins shows; trackers have nothing to be described
FORMATS = ("list", "dicom", "png", "nifti")
NETWORKS = ("torchvision", "timm", "onnx", "torchscript")
TABLES = ("terminal", "csv", "markdown", "latex")
Command = TypeVar("Command", bound=Callable[..., Any])


class Commands(click.Group):
    """A group that knows the nearest command to a misspelt one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; raise a usage error with the nearest one where there is none of that name."""
        if args and self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            raise click.UsageError(f"there is no command {args[0]!r}; {nearest(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)


class Jobs(click.ParamType):  # type: ignore[type-arg]  # older releases of click take none
    """A number of jobs, or "auto"."""

    name = "jobs"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | Literal["auto"]:
        """Return the number, or "auto"; a usage error for anything else."""
        if value == "auto":
            return "auto"
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"must be 1, 2, ... or auto but is {value!r}", param, ctx)
        return int(value)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with its code: 0 done, 1 failed, 2 a wrong request, 130 or 143 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    try:
        plain = [word for word in words if word != "--debug"]
        code = cli.main(args=plain, prog_name="ctkit", standalone_mode=False, obj={"debug": debug})
    except click.UsageError as error:
        _fail(error.format_message(), 2)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except (KeyboardInterrupt, click.Abort) as error:  # click makes an abort of an interrupt
        _fail("interrupted; run the same command again to go on", stopping.exit_code(error.__context__ or error))
    except BrokenPipeError:  # the reader of a pipe went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except CtkitError as error:
        if debug:
            traceback.print_exc()
        _fail(str(error), error.exit_code)
    except Exception as error:  # whatever it is, the user gets one line, and the rest with --debug
        if debug:
            traceback.print_exc()
        _fail(f"unexpected {type(error).__name__}: {error} (run again with --debug for the traceback)", 1)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"ctkit: {' '.join(message.split())}", err=True)
    sys.exit(code)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(hookspecs.VERSION, prog_name="ctkit", message="%(prog)s %(version)s")
def cli() -> None:
    """Contrastive pre-training on CT with less, but better chosen data.

    Add --debug to any command for the traceback behind an error.
    """


# --- running ------------------------------------------------------------------------------------------------------


def output_options(command: Command) -> Command:
    """Add the options that say how a command prints and logs."""
    options = (
        click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts."),
        click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
        click.option(
            *("-v", "--verbose"), count=True, expose_value=False, callback=_remember,
            help="Print what plugins report; -vv: debug messages too, which may name files and patients.",
        ),
        click.option(
            "--log-json", is_flag=True, expose_value=False, callback=_remember,
            help="Log to run.jsonl, one JSON object a line, instead of run.log.",
        ),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep an option for the console, which every command makes in the same way."""
    context.obj[option.name] = value


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--until", type=click.Choice(STAGES), default="report", show_default=True, help="Stop after this stage.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key: dataset.size=128.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the run, instead of runs/<name>.")
@click.option("--only", "parts", multiple=True, metavar="KEY=NAME", help="Work on this arm, pretrain, task or seed.")
@click.option(
    *("--jobs", "-j"),
    default="1",
    type=Jobs(),
    metavar="N|auto",
    show_default=True,
    help="Trainings and evaluations at once, each with GPUs of its own; auto: as many as there are GPUs for.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done and what is there already; do nothing.")
@output_options
def run(
    file: Path,
    until: str,
    overrides: tuple[str, ...],
    out: Path | None,
    parts: tuple[str, ...],
    jobs: int | Literal["auto"],
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run a pipeline FILE. What an earlier start has made is not made again.

    --only arm=hash6 may be given several times: one key takes any of its names, several keys must all fit.
    """
    from ctkit import pipeline_file, plugins, runner
    from ctkit.session import parse

    registry = plugins.load()
    extra = (f"run.out={json.dumps(str(out.absolute()), ensure_ascii=False)}",) if out else ()
    resolved = pipeline_file.load(file, registry, (*overrides, *extra))
    only = parse(parts, resolved)
    console = _console(as_json=as_json, quiet=quiet)
    _warn_of_broken(registry, console)
    if dry_run:
        _print_plan(resolved, registry, console, only, jobs)
        return
    folder = runner.run(resolved, registry, console, until, only, jobs)  # type: ignore[arg-type]  # click checked the choice
    _print_outcome(folder.path, console)


def _warn_of_broken(registry: Registry, console: Console) -> None:
    """What is broken may be a tracker, which nothing else would miss."""
    for entry in registry.entries:
        if entry.kind == "unknown":
            console.warn(f"plugin {entry.name!r} of {entry.distribution} is broken and left out: {entry.error}")


def _print_outcome(run: Path, console: Console) -> None:
    from ctkit.storage import RunFolder, read_provenance

    facts = read_provenance(run)
    failures = facts.get("failures", [])
    page = RunFolder(run).report
    where = f"report: {page}" if str(facts.get("state")).startswith(("done", "failed in part")) else f"results: {run}"
    if not failures and all(stage["cached"] for stage in facts.get("stages", [])):
        console.say(f"nothing to do, everything is up to date; {where}")
    else:
        console.say(f"{facts.get('state', 'done')}; {where}")
    if failures:
        raise CtkitError(f"{len(failures)} of the run's parts failed, see run.json; first: {failures[0]['reason']}")


def _print_plan(resolved: Any, registry: Registry, console: Console, only: Only, jobs: int | Literal["auto"]) -> None:
    from ctkit import runner
    from ctkit.runner import dry_run
    from ctkit.session import open_session

    folder = runner.run_folder(resolved)
    session = replace(open_session(resolved, registry, console, folder, jobs), only=only)
    if console.as_json:
        rows = [(line.stage, line.item, line.state, line.detail) for line in dry_run.plan(session)]
        console.table(("stage", "item", "state", "detail"), rows)
    else:
        console.table(("plan", "state", "detail"), list(dry_run.tree(dry_run.plan(session))))


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a key: dataset.size=128.")
def validate(file: Path, overrides: tuple[str, ...]) -> None:
    """Check a pipeline FILE without running it."""
    from ctkit import pipeline_file, plugins
    from ctkit.console import count

    registry = plugins.load()
    resolved = pipeline_file.load(file, registry, overrides)
    _warn_of_broken(registry, _console(as_json=False, quiet=False))
    parts = (
        count(len(resolved.arms), "arm"),
        count(len(resolved.pretrains), "pre-training"),
        count(len(resolved.baselines), "baseline"),
        count(len(resolved.tasks), "evaluation"),
        count(len(resolved.seeds), "seed"),
    )
    click.echo(f"{file}: valid ({', '.join(parts)})")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
def report(run: Path) -> None:
    """Make report.html of the folder RUN again, from what lies there."""
    from ctkit_reports import write_report

    click.echo(f"report: {write_report(run)}")


@cli.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN [RUN ...]")
@click.option("--metric", help="Metric to show, instead of AUC where there is one.")
@click.option("--format", "form", type=click.Choice(TABLES), default=TABLES[0], show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="File to write the table to.")
def compare(runs: tuple[Path, ...], metric: str | None, form: str, out: Path | None) -> None:
    """Print one table of the scores of all RUNs: slices kept, pre-training time, difference from the reference arm.

    The reference is that of each run, and p values are adjusted (Holm) within their run.
    """
    from ctkit.files import write_text
    from ctkit_reports.across import across, render, without_rows

    rows = across(runs, metric)
    for name in without_rows(runs, rows):
        click.echo(f"{name} has no score by {metric} and is left out", err=True)
    table = render(rows, form)  # type: ignore[arg-type]  # click checked the choice
    if out is None:
        click.echo(table, nl=False)
        return
    write_text(out, table)
    click.echo(f"table: {out}")


@cli.command()
@click.argument("source", type=click.Path(path_type=Path), required=False)
@click.option(
    "--dataset",
    "dataset",
    required=True,
    metavar="NAME",
    shell_complete=plugins_of("dataset"),
    help="Data set plugin that reads SOURCE.",
)
@click.option(
    "--reducer", "reducer", required=True, metavar="NAME", shell_complete=plugins_of("reducer"), help="Reducer plugin."
)
@click.option("-p", "parameters", multiple=True, metavar="KEY=VALUE", help="Parameter, scope or keep of the reducer.")
@click.option("-d", "dataset_parameters", multiple=True, metavar="KEY=VALUE", help="Parameter of the data set.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the selection and its report.")
@click.option("--seed", type=int, default=42, show_default=True, help="Seed of reducers that draw.")
@click.option("--curve", "with_curve", is_flag=True, help="Also how many slices each threshold would keep.")
@click.option("--export", "form", type=click.Choice(FORMATS), help="Also export the kept slices, to OUT/slices-FORMAT.")
@output_options
def reduce(
    source: Path | None,
    dataset: str,
    reducer: str,
    parameters: tuple[str, ...],
    dataset_parameters: tuple[str, ...],
    out: Path,
    seed: int,
    with_curve: bool,
    form: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Choose slices of SOURCE without a pipeline file: the selection and a report go to --out."""
    from ctkit import pipeline_file, plugins, runner
    from ctkit_exporters import slices as exporting

    document: dict[str, Any] = {
        "run": {"name": "reduce", "seed": seed, "out": str(out.absolute())},
        "dataset": {"use": dataset} | ({"root": str(source.absolute())} if source else {}),
        "reduce": [{"use": reducer}],
    }
    for key, values in (("reduce.0", parameters), ("dataset", dataset_parameters)):
        for value in values:
            pipeline_file.override(document, f"{key}.{value}")
    registry = plugins.load()
    resolved = pipeline_file.resolve(document, registry, Path.cwd(), lambda _: "ctkit reduce")
    console = _console(as_json=as_json, quiet=quiet)
    if form:
        exporting.refuse_without_sources(resolved.dataset.entry.name, resolved.dataset.build(), form)  # type: ignore[arg-type]  # click checked the choice
    folder = runner.run(resolved, registry, console)
    arm = resolved.arms[0].id
    if with_curve:
        _write_curve(folder.path, arm, console)
    if form:
        _export_slices(folder.path, arm, form, folder.path / f"slices-{form}", console)
    _print_outcome(folder.path, console)


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=completion.arms)
@output_options
def curve(run: Path, arm: str, as_json: bool, quiet: bool) -> None:
    """Print how many slices each threshold of ARM in the folder RUN would keep; plot it and show it in the report."""
    _write_curve(run, arm, _console(as_json=as_json, quiet=quiet))


def _write_curve(run: Path, arm: str, console: Console) -> None:
    from ctkit import CurveRow, open_run
    from ctkit_reports import write_curve_plot, write_report

    found = open_run(run)
    with found.revisit(arm, console) as opened:
        opened.write_curve()
        plot = write_curve_plot(run, arm)
        if found.folder.report.exists():
            write_report(run)
    written = found.arm(arm)
    console.table(CurveRow._fields, written.curve if written else ())
    console.say(f"curve: {plot}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=completion.arms)
@output_options
def explain(run: Path, arm: str, as_json: bool, quiet: bool) -> None:
    """Write a page that lets you judge by eye how ARM of the folder RUN chose: explain.html in the arm's folder."""
    from ctkit import open_run
    from ctkit_reports import write_explanation
    from ctkit_reports.explaining import explain as gather

    console = _console(as_json=as_json, quiet=quiet)
    with open_run(run).revisit(arm, console) as opened:
        page = opened.folder.explanation
        write_explanation(page, gather(opened))
    console.say(f"explanation: {page}")


@cli.command("export-slices")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=completion.arms)
@click.option("--format", "form", type=click.Choice(FORMATS), required=True, help="What to write; see below.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@output_options
def export_slices(run: Path, arm: str, form: str, out: Path, as_json: bool, quiet: bool) -> None:
    """Export the slices that ARM of the folder RUN keeps; a stopped export goes on where it stopped.

    \b
    list   slices.txt with the paths of the source files
    dicom  links to the source files, copies where the disk has no links
    png    8 bits at the full matrix, in the run's training rendering
    nifti  a file for each volume

    Files are named by a digest of the volume and the number of the slice. The list, and what is in DICOM files, name
    patients where the source does.
    """  # noqa: D301  # a real backspace is click's mark for lines that stay as they are
    _export_slices(run, arm, form, out, _console(as_json=as_json, quiet=quiet))


def _export_slices(run: Path, arm: str, form: str, out: Path, console: Console) -> None:
    from ctkit import open_run
    from ctkit_exporters import slices as exporting

    with open_run(run).revisit(arm, console) as opened:
        count = exporting.export_slices(opened, form, out)  # type: ignore[arg-type]  # click checked the choice
    console.say(f"{count} slices exported as {form}: {out}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(NETWORKS), required=True, help="What to write; see below.")
@click.option("--arm", help="Only this arm.")
@click.option("--pretrain", help="Only this pre-training.")
@click.option("--seed", type=int, help="Only this seed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; or for one backbone a file.")
@output_options
def export(
    run: Path,
    form: str,
    arm: str | None,
    pretrain: str | None,
    seed: int | None,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export the backbones of the folder RUN for use without ctkit: all, or those of an arm, a pre-training, a seed.

    \b
    torchvision  NAME.safetensors, weights under torchvision's names
    timm         NAME/, a folder that timm loads by its path
    onnx         NAME.onnx, network and weights
    torchscript  NAME.pt, network and weights

    NAME is ARM-PRETRAIN-seed-SEED. Each file is loaded again and its features compared with the original's. Mean and
    standard deviation, which images have to be normalised with, are in each file and differ from arm to arm.
    """  # noqa: D301  # a real backspace is click's mark for lines that stay as they are
    from ctkit_exporters import backbones as exporting_backbones

    chosen = exporting_backbones.choose_backbones(run, arm, pretrain, seed)
    console = _console(as_json=as_json, quiet=quiet)
    written = exporting_backbones.export_backbones(chosen, form, out)  # type: ignore[arg-type]  # click checked the choice
    exporting_backbones.tell(written, console)


@cli.command()
@click.argument("folder", type=click.Path(path_type=Path), default="runs")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def runs(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER, the youngest first: how each stands, how long ago it was started, its size."""
    from ctkit.cli import listing
    from ctkit.console import quantities
    from ctkit.storage import KINDS, Cache

    found = listing.runs_in(folder)
    console = _console(as_json=as_json, quiet=False)
    if as_json:
        rows: list[tuple[object, ...]] = [(run.path.name, run.state, round(run.age), run.size) for run in found]
        console.table(("run", "state", "age_seconds", "bytes"), rows)
        return
    shown = [(run.path.name, run.state, quantities.age(run.age), quantities.size(run.size)) for run in found]
    console.table(("run", "state", "age", "size"), shown)
    cache = Cache.beside(folder / "any").folder
    held = sum(listing.occupied(cache / kind) for kind in KINDS)
    console.say(f"cache: {quantities.size(held)} in {cache}; to free it: ctkit clean")


@cli.command()
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
    from ctkit.console import parse_age, parse_size, size
    from ctkit.storage import Cache, spelled_one_way

    cache = Cache.beside(folder / "any").folder
    wish = cleaning.Wish(
        older_than=parse_age(older_than) if older_than else None,
        keep_below=parse_size(keep_below) if keep_below else None,
        run=spelled_one_way(folder / run_) if run_ else None,
    )
    planned = cleaning.plan(cache, wish)
    console = _console(as_json=False, quiet=False)
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


@cli.command()
@click.argument("file", type=click.Path(path_type=Path), default="pipeline.toml")
@click.option("--name", help="Name of the run.")
@click.option("--dataset", shell_complete=plugins_of("dataset"), help="Data set plugin, such as lidc-idri.")
@click.option("--root", help="Folder of the data set.")
@click.option(
    "--reducer",
    "reducers",
    multiple=True,
    shell_complete=plugins_of("reducer"),
    help="Reducer of an arm; may be repeated.",
)
@click.option("--method", shell_complete=plugins_of("method"), help='Pre-training method; "" leaves pre-training out.')
@click.option("--task", shell_complete=plugins_of("task"), help='Task to score on; "" leaves scoring out.')
@click.option("--task-root", help="Folder of the task's images.")
@click.option("--protocol", "protocols", multiple=True, default=("linear", "knn"), show_default=True)
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
def init(
    file: Path,
    name: str | None,
    dataset: str | None,
    root: str | None,
    reducers: tuple[str, ...],
    method: str | None,
    task: str | None,
    task_root: str | None,
    protocols: tuple[str, ...],
    force: bool,
) -> None:
    """Write a commented pipeline FILE, asking on a terminal for what no option gives."""
    from ctkit import plugins
    from ctkit.files import write_text
    from ctkit.pipeline_file import first_file as starting

    if file.exists() and not force:
        raise RequestError(f"{file} exists; give another name, or --force to replace it")
    registry = plugins.load()

    def asked(kind: Kind, question: str, given: str | None, default: str) -> str:
        return _asked(question, given, default, partial(starting.known, registry, kind))

    def asked_root(kind: Kind, plugin: str, question: str, given: str | None) -> str:
        return _asked(question, given, "data") if plugin and starting.has_root(registry, kind, plugin) else ""

    name = _asked("Name of the run", name, "first")
    dataset = asked("dataset", "Data set (see: ctkit list-plugins)", dataset, "phantom")
    root = asked_root("dataset", dataset, "Folder of the scans", root)
    arms = " ".join(reducers) or asked("reducer", "Arms, separated by spaces", None, "all every-n hash random")
    method = asked("method", "Pre-training method, or none", method, "simclr")
    task = asked("task", "Task to score on, or none", task, "phantom-regions") if method else ""
    task_root = asked_root("task", task, "Folder of the task's images", task_root)
    wishes = starting.Wishes(name, dataset, root, arms.split(), method, task, task_root, protocols)
    write_text(file, starting.first_file(wishes, registry))
    click.echo(f"{file} written; next: ctkit validate {file}")


def _asked(question: str, given: str | None, default: str, check: Callable[[str], str] = str) -> str:
    """What was given, or what a person answers until ``check`` raises nothing; the default where there is no person."""
    if given is not None or not sys.stdin.isatty():
        return default if given is None else given

    def checked(answer: str) -> str:
        try:
            return check(answer)
        except CtkitError as error:
            raise click.UsageError(str(error)) from error  # click says so and asks again

    return str(click.prompt(question, default=default, value_proc=checked))


@cli.command()
def schema() -> None:
    """Print the JSON Schema of pipeline files with every installed plugin, for editors."""
    from ctkit import plugins
    from ctkit.pipeline_file import pipeline_schema

    click.echo(json.dumps(pipeline_schema(plugins.load()), indent=2))


# --- plugins ------------------------------------------------------------------------------------------------------


@cli.command("list-plugins")
@click.option("--kind", type=click.Choice(LISTED), help="Only this kind.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list of objects.")
def list_plugins(kind: str | None, as_json: bool) -> None:
    """List every plugin that is installed, the broken ones with their error."""
    from ctkit import plugins

    entries = sorted(plugins.load().entries, key=lambda e: (_rank(e.kind), e.name, e.distribution))
    shown = [entry for entry in entries if kind is None or entry.kind in (kind, "unknown")]
    columns = ("kind", "name", "summary", "distribution", "version", "status", "error")
    if as_json:
        click.echo(json.dumps([{column: getattr(entry, column) for column in columns} for entry in shown], indent=2))
        return
    click.echo(_plugin_table(shown), nl=False)


def _rank(kind: str) -> int:
    return LISTED.index(kind) if kind in LISTED else len(LISTED)


def _plugin_table(entries: list[Entry]) -> str:
    """Plain columns: a table library would cost more than all the rest of this command."""
    rows = [(entry.kind, entry.name, f"{entry.distribution} {entry.version}", _summary(entry)) for entry in entries]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(3)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]]) for row in rows
    )
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _summary(entry: Entry) -> str:
    return entry.summary if entry.status == "ok" else f"[{entry.status}] {entry.error}"


@cli.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name", shell_complete=plugins_of())
@click.option("--json", "as_json", is_flag=True, help="The JSON Schema of the parameters.")
def describe(kind: str, name: str, as_json: bool) -> None:
    """Describe the plugin NAME of a KIND: what it does and its parameters, with units, bounds and defaults."""
    from ctkit import plugins
    from ctkit.plugins import describe_plugin

    entry = plugins.load().find(kind, name)  # type: ignore[arg-type]  # click checked the choice
    if as_json:
        click.echo(json.dumps(entry.load().params_type.model_json_schema(), indent=2))
        return
    click.echo(describe_plugin(entry))


@cli.command("new-plugin")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="A new or empty folder, instead of ctkit-NAME.")
def new_plugin(kind: str, name: str, out: Path | None) -> None:
    """Write a package with a working plugin of a KIND called NAME, and its tests, to make your own of."""
    from ctkit import plugins
    from ctkit.testing.new_plugin import write_plugin

    taken = [entry.distribution for entry in plugins.load().of_kind(kind) if entry.name == name]
    if taken:
        raise RequestError(f"there is a {kind} {name!r} already, of {taken[0]}; choose another name")
    folder = out or Path(f"ctkit-{name}")
    for path in write_plugin(kind, name, folder):  # type: ignore[arg-type]  # click checked the choice
        click.echo(path)
    click.echo(f"next: pip install --editable {folder}, then: pytest {folder}")


def _console(*, as_json: bool, quiet: bool) -> Console:
    from ctkit.console import Console

    options = click.get_current_context().obj
    verbosity = 2 if options["debug"] else options.get("verbose", 0)
    return Console(as_json=as_json, quiet=quiet, verbosity=verbosity, log_json=options.get("log_json", False))
