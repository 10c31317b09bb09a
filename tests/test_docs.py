"""What the README and the docs show is true: blocks run in the order of their page, and nothing is left out.

A page's blocks share a folder. A fence may carry ``title="name"``: the block is that file, for the blocks after it.

toml     a pipeline file, or the tables of one that matter there: ``ctkit validate`` accepts it
python   runs
sh       lines that begin with ``ctkit`` run and end well; a target given to ``make`` exists
console  lines after ``$ `` run, and print the lines that follow (``...`` stands for anything)
text     is a picture, bibtex a citation
"""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

import pytest
import yaml

from ctkit import hookspecs
from ctkit.cli import main
from ctkit.contracts import Leak
from ctkit.plugins.registry import load
from ctkit.runner import pipeline_text
from ctkit.storage import ArmFolder, RunFolder, TrainingFolder, records
from ctkit.storage.run_folder import File

REPOSITORY = Path(__file__).resolve().parent.parent
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
EXAMPLE = REPOSITORY / "examples" / "ctkit-every-kth"
METHOD = REPOSITORY / "examples" / "ctkit-barlow-twins"
COMMAND = REPOSITORY / "examples" / "ctkit-kept-share"
FENCE = re.compile(r'^```(?P<language>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    title: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        yield Block(match["language"], match["title"] or "", match["text"], text.count("\n", 0, match.start()) + 1)


def by_page(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


SLOW = {REPOSITORY / "docs" / "monai.md"}  #: trains and exports a ResNet-50


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page in SLOW), id=by_page(page)) for page in PAGES]
)
def test_every_block_of_a_page_does_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        if block.title:
            Path(block.title).write_text(block.text)
        try:
            CHECKS[block.language](block)
        except (AssertionError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "")
            pytest.fail(f"{by_page(page)}:{block.line}: {error}\n{said}")


def accept(block: Block) -> None:
    """A pipeline, completed where only the tables that matter are shown; or a package's ``pyproject.toml``."""
    document = tomllib.loads(block.text)
    if block.title == "pyproject.toml":
        assert document["project"]["entry-points"]["ctkit"]
        return
    for root in re.findall(r'^root = "([^"]+)"', block.text, re.MULTILINE):
        Path(root).mkdir(parents=True, exist_ok=True)
    for weights in re.findall(r'^init = "([^"]+)"', block.text, re.MULTILINE):
        Path(weights).parent.mkdir(parents=True, exist_ok=True)
        Path(weights).touch()
    text = block.text
    if "dataset" not in document:
        text += '\n[dataset]\nuse = "phantom"\n'
    if "reduce" not in document:
        text += '\n[[reduce]]\nuse = "all"\n'
    if "task" in document and "pretrain" not in document:
        text += '\n[[pretrain]]\nuse = "simclr"\n'
    if "run" not in document:
        text = '[run]\nname = "page"\n' + text
    Path("block.toml").write_text(text)
    pipeline_text.load(Path("block.toml"), load())  # `ctkit validate` would miss the data


def execute(block: Block) -> None:
    libraries_own = "ignore:NvImgCodecPydicomReader"  # MONAI's, of a library that is not needed
    command = [sys.executable, "-W", "error", "-W", libraries_own, "-c", block.text]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def run_lines(block: Block) -> None:
    for line in commands(block.text):
        words = shlex.split(line, comments=True)
        if words[:1] == ["ctkit"]:
            ctkit(*words[1:])
        if words[:1] == ["make"]:
            assert all(f"\n{target}:" in (REPOSITORY / "Makefile").read_text() for target in words[1:]), line


def run_session(block: Block) -> None:
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        printed = outcome(*shlex.split(command)[1:])[1].splitlines()
        for line in filter(None, shown.splitlines()):
            pattern = re.sub(r"([\[\]?*])", r"[\1]", line).replace("...", "*")
            assert any(fnmatchcase(candidate, pattern) for candidate in printed), f"{line!r} is not in {printed}"


CHECKS: dict[str, Callable[[Block], object]] = {
    "toml": accept,
    "python": execute,
    "sh": run_lines,
    "console": run_session,
    "text": lambda _: None,
    "bibtex": lambda _: None,
}


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def ctkit(*words: str) -> None:
    """Run the command, which must end well."""
    code, printed = outcome(*words)
    assert code == 0, f"ctkit {shlex.join(words)} exited with {code}:\n{printed}"


def outcome(*words: str) -> tuple[int, str]:
    """Run the command in this process; return its exit code and what it printed."""
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as left:
        main(list(words))
    return int(left.value.code or 0), out.getvalue() + err.getvalue()


@pytest.fixture(scope="module")
def docs() -> str:
    return "\n".join(page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("hook", sorted(name for name in vars(hookspecs) if name.startswith("ctkit_")))
def test_every_hook_is_in_the_docs(docs, hook):
    assert f"`{hook}`" in docs


#: What each file holds, by its name on the page: the columns of its rows, or the keys of its document.
COLUMNS = {
    "volumes.csv": records.VolumeRow._fields,
    "skipped.csv": records.SkippedRow._fields,
    "selection.csv": records.SliceRow._fields,
    "curve.csv": records.CurveRow._fields,
    "history.csv": records.HistoryRow._fields,
    "results.csv": records.ScoreRow._fields,
    "comparisons.csv": records.ComparisonRow._fields,
    "leaks.csv": Leak._fields,
    "TASK/PROTOCOL/repeat-N-labels-SHARE.csv": records.PREDICTION_COLUMNS,
}
KEYS = {
    "arm.json": records.ArmFacts.__annotations__,
    "pretrain.json": records.TrainingFacts.__annotations__,
    "TASK/PROTOCOL/repeat-N-labels-SHARE.json": records.PredictionFacts.__annotations__,
}
CURVES = {"loss"}  #: of a history: names in it, not columns
VALUES = {"true", "false", "all", "other"}


@pytest.fixture(scope="module")
def described() -> dict[str, set[str]]:
    """The files that the page on run folders describes, each with the names in its description."""
    text = (REPOSITORY / "docs" / "run-folder.md").read_text(encoding="utf-8")
    found = re.findall(r"^`([^`\n]+)`\n:   (.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    return {name: set(re.findall(r"`([a-z][a-z_]*)`", words)) for name, words in found}


def declared(*folders: type) -> set[str]:
    """Names of the files of folders."""
    return {value.name for folder in folders for value in vars(folder).values() if isinstance(value, File)}


def test_the_page_on_run_folders_names_the_files_that_the_owner_knows(described):
    text = (REPOSITORY / "docs" / "run-folder.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([^`/]+)` \|", text, re.MULTILINE))
    of_run = declared(RunFolder) - {".lock"}
    predictions = {name for name in {**COLUMNS, **KEYS} if "/" in name}
    known = {"selection.csv", *declared(ArmFolder, TrainingFolder), *predictions}
    assert listed == of_run
    assert described.keys() - of_run <= known
    assert {name for name in known if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("name", COLUMNS)
def test_the_page_on_run_folders_names_the_columns_that_are_written_and_no_others(described, name):
    assert described[name] - VALUES - CURVES == set(COLUMNS[name])


@pytest.mark.parametrize("name", KEYS)
def test_the_page_on_run_folders_names_no_key_that_is_not_written(described, name):
    assert described[name] <= KEYS[name].keys()


def test_every_page_is_in_the_navigation():
    parts = yaml.safe_load((REPOSITORY / "mkdocs.yml").read_text())["nav"]
    pages = [page for part in parts for page in ([part] if isinstance(part, str) else next(iter(part.values())))]
    assert sorted(pages) == sorted(path.name for path in (REPOSITORY / "docs").glob("*.md"))


def test_every_built_in_plugin_is_in_the_readme():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    ours = {entry.name for entry in load().entries if entry.distribution == "ctkit-ssl"}
    assert {name for name in ours if f"`{name}`" not in readme} == set()


def test_the_readme_shows_the_example_plugin_as_it_is():
    shown = [block.text for block in blocks(REPOSITORY / "README.md") if block.title == "ctkit_every_kth.py"]
    assert shown == [(EXAMPLE / "ctkit_every_kth.py").read_text()]


@pytest.mark.parametrize(
    "page",
    [*PAGES, *(folder / "README.md" for folder in (EXAMPLE, METHOD, COMMAND)), REPOSITORY / "CONTRIBUTING.md"],
    ids=by_page,
)
def test_every_relative_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    files = [target for target in targets if not target.startswith("figures/")]  # these the docs build draws
    assert [target for target in files if not (page.parent / target).exists()] == []


def test_the_figures_of_the_docs_are_those_that_are_drawn(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    monkeypatch.delitem(sys.modules, "figures", raising=False)  # the benchmarks have a module of that name
    figures = pytest.importorskip("figures")  # needs MkDocs
    shown = re.findall(r"\(figures/([^)]+)\)", (REPOSITORY / "docs" / "choosing.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(name for name, _ in figures.drawn())


def test_the_reference_covers_what_templates_and_examples_import():
    listed = set(re.findall(r"^::: (\S+)", (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8"), re.M))
    templates = (REPOSITORY / "core/ctkit/testing/plugin_templates").glob("*.py.j2")
    imported = {
        (module, name.strip())
        for path in (*templates, *(REPOSITORY / "examples").rglob("ctkit_*.py"))
        for module, names in re.findall(r"^ *from (ctkit[\w.]*) import ([\w, ]+)", path.read_text(), re.M)
        for name in names.split(",")
        if (REPOSITORY / "examples" / module.replace("_", "-")).exists() is False
    }
    assert ("ctkit_tasks.parts", "parts_of") in imported
    missing = [
        f"{module}.{name}" for module, name in sorted(imported) if not {module, *places_of(module, name)} & listed
    ]
    assert missing == []


def places_of(module: str, name: str) -> set[str]:
    """Where an object that is imported from a module is defined."""
    found = getattr(importlib.import_module(module), name)
    home = getattr(found, "__module__", module)
    return {home, f"{home}.{name}"}
