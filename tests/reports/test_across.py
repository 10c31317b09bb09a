"""The table across runs: its numbers are those of the run folders, and each format survives its own reader."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from ctkit import ComparisonRow, ScoreRow
from ctkit.cli import main
from ctkit.errors import RequestError
from ctkit.files import read_csv, write_csv
from ctkit_reports.across import COLUMNS, PUBLISHED, Row, across, render

Make = Callable[..., Any]


@pytest.fixture
def other_run(study: Make) -> Path:
    return study(arms=("all", "hash6")).write()


def as_dicts(table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table)))


def a_row(arm: str) -> Row:
    score = ScoreRow(arm, "simclr", "covid-ct", "linear", 1.0, "all", "all", "auc", 0.8, 0.7, 0.9, 0.02, 0.01)
    return Row("study", score, 12, 120, 61.0, None)


def test_rows_are_the_pooled_scores_and_comparisons_of_the_run(full_run: Path) -> None:
    rows = as_dicts(render(across([full_run]), "csv"))
    key = ("arm", "pretrain", "task", "protocol")
    scored = {
        tuple(row[k] for k in key): row
        for row in read_csv(full_run / "results.csv")
        if (row["seed"], row["metric"]) == ("all", "auc")
    }
    compared = {
        (*(row[k] for k in key), row["contrast"]): row
        for row in read_csv(full_run / "comparisons.csv")
        if row["metric"] == "auc"
    }
    assert {tuple(row[k] for k in key) for row in rows} == set(scored)
    for row in rows:
        here = tuple(row[k] for k in key)
        assert float(row["value"]) == pytest.approx(float(scored[here]["value"]), abs=1e-5)
        for name, column in (("difference", "difference"), ("p", "p"), ("p_adjusted", "p_adjusted")):
            if row["arm"] == "all":
                assert row[name] == ""
            else:
                assert float(row[name]) == pytest.approx(float(compared[*here, "reference"][column]), rel=1e-4)
        controlled = compared.get((*here, "same size"))
        assert row["control"] == (controlled["reference"] if controlled else "")
        if controlled:
            assert float(row["control_difference"]) == pytest.approx(float(controlled["difference"]), rel=1e-4)
            assert float(row["control_p_adjusted"]) == pytest.approx(float(controlled["p_adjusted"]), rel=1e-4)
    reduced = [row for row in read_csv(full_run / "arms" / "hash6" / "selection.csv") if row["kept"] == "true"]
    assert {row["kept"] for row in rows if row["arm"] == "hash6"} == {str(len(reduced))}


def test_each_run_has_its_rows_and_a_task_stands_together(full_run: Path, other_run: Path) -> None:
    rows = as_dicts(render(across([full_run, other_run]), "csv"))
    assert [row["task"] for row in rows] == ["covid-ct"] * 6 + ["organs"] * 6
    assert [row["run"] for row in rows if row["arm"] == "hash6"] == ["full", "study"] * 2


def test_runs_of_one_name_are_told_apart_by_their_folders(full_run: Path, tmp_path: Path) -> None:
    (tmp_path / "full").symlink_to(full_run)
    twin = tmp_path / "elsewhere" / "full"
    twin.parent.mkdir()
    twin.symlink_to(full_run)
    assert {row.run for row in across([full_run, twin])} == {str(full_run), str(twin)}


def test_a_run_that_is_given_twice_counts_once(full_run: Path) -> None:
    assert across([full_run, full_run]) == across([full_run])


def test_another_metric_may_be_asked_for(full_run: Path) -> None:
    assert {row.score.metric for row in across([full_run], "f1")} == {"f1"}


def test_a_metric_that_nobody_has_names_the_nearest(full_run: Path) -> None:
    with pytest.raises(RequestError, match="no run has the metric 'acuracy'; did you mean 'accuracy'"):
        across([full_run], "acuracy")


def test_a_run_that_lacks_the_metric_is_named_beside_the_table(
    full_run: Path, other_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [list(row.values()) for row in read_csv(other_run / "results.csv") if row["metric"] != "f1"]
    write_csv(other_run / "results.csv", ScoreRow._fields, rows)
    with pytest.raises(SystemExit) as left:
        main(["compare", str(full_run), str(other_run), "--metric", "f1"])
    said = capsys.readouterr()
    assert left.value.code == 0
    assert said.err == f"{other_run.name} has no score by f1 and is skipped\n"
    assert "F1" in said.out


def test_a_run_that_ended_with_its_selections_has_nothing_to_compare(selection_run: Path) -> None:
    with pytest.raises(RequestError, match="has no scores yet"):
        across([selection_run])


def test_the_csv_has_the_columns_that_the_docs_name(full_run: Path) -> None:
    assert tuple(as_dicts(render(across([full_run]), "csv"))[0]) == COLUMNS


def test_what_is_the_same_in_every_row_stands_once(full_run: Path) -> None:
    caption, rule, header, *_ = render(across([full_run]), "markdown").splitlines()
    assert (caption, rule) == ("full, simclr, all labels, AUC", "")
    assert header.startswith("| Arm | Task ")


def test_the_table_of_a_terminal_has_a_block_for_each_task_and_fits_80_columns(full_run: Path, other_run: Path) -> None:
    lines = render(across([full_run, other_run]), "terminal").splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if "AUC" in line] == [
        f"{run}, {task}, all labels, AUC" for task in ("covid-ct, linear", "organs, knn") for run in ("full", "study")
    ]
    own = next(number for number, line in enumerate(lines) if line.startswith("hash6"))
    assert " ".join(lines[own].split()) == "hash6 14.3 % 17.5 % 0.820 [0.783, 0.857] +0.040 [+0.008, +0.072] 0.045"
    assert lines[own + 1].startswith(" −")
    assert "+0.045 [+0.013, +0.077]" in lines[own + 1]


def test_long_names_are_broken_and_methods_told_apart_within_80_columns() -> None:
    rows = [a_row(f"{'a' * 30}-{method}") for method in ("simclr", "moco")]
    rows[1] = replace(rows[1], score=rows[1].score._replace(pretrain="moco"))
    lines = render(rows, "terminal").splitlines()
    assert max(map(len, lines)) <= 80
    words = "".join(line.lstrip().split(" ")[0] for line in lines)
    assert words.count("a" * 30) == 2
    assert "moco" in words


def test_the_table_that_the_docs_show_is_what_the_command_prints(repository: Path) -> None:
    text = (repository / "docs" / "daily-life.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    rows: list[Row] = []
    for line in shown.splitlines()[3:]:
        values = [float(value.replace("−", "-")) for value in re.findall(r"[+−]?\d\.\d{3}", line)]
        if line.startswith(" − "):
            rows[-1] = replace(rows[-1], controlled=a_comparison(line.split()[1], *values))
            continue
        if len(line.split()) == 1:  # the end of a name that was broken
            method = rows[-1].score.pretrain + line.strip()
            rows[-1] = replace(rows[-1], score=rows[-1].score._replace(pretrain=method))
            continue
        arm, method, kept = re.findall(r"^(\S+)(?: ([a-z]\S*))? +(\S+)", line)[0]
        baseline = kept == "–"
        place = (method, "phantom-regions", "linear", 1.0)
        score = ScoreRow(arm, *place, "all", "all", "auc", *values[:3], math.nan, math.nan)
        compared = a_comparison("all", *values[3:]) if values[3:] else None
        slices, share = (math.nan, math.nan) if baseline else (float(kept) * 2.56, 1.0)
        rows.append(Row("redundancy-1", score, slices, 256, 1, compared, share=share))
    assert len(rows) == 5
    printed, shown = (text.replace("\N{NO-BREAK SPACE}", " ").strip() for text in (render(rows, "terminal"), shown))
    assert printed == shown


def a_comparison(reference: str, difference: float, low: float, high: float, p: float) -> ComparisonRow:
    place = ("hash", reference, "simclr", "phantom-regions", "knn", 1.0, "auc")
    return ComparisonRow(*place, difference, low, high, p, p, "paired bootstrap", "reference", "primary")


@given(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1))
def test_a_markdown_reader_finds_every_cell(name: str) -> None:
    text = render([a_row(name), a_row("all")], "markdown")
    tokens = MarkdownIt("commonmark", {"html": False}).enable("table").parse(text)
    cells = [tokens[n + 1].content for n, token in enumerate(tokens) if token.type in ("th_open", "td_open")]
    assert len(cells) == 3 * 6
    assert cells[12] == "all"


@given(st.text(string.printable.strip() + "−±–", min_size=1))
def test_latex_keeps_every_letter_and_no_column_breaks(name: str) -> None:
    text = render([a_row(name), a_row("all")], "latex")
    spelt = {
        r"\textbackslash{}": "\\", r"\textasciitilde{}": "~", r"\textasciicircum{}": "^",
        "$<$": "<", "$>$": ">", "$-$": "−", r"$\pm$": "±", "--": "–",
    }  # fmt: skip
    pattern = "|".join([*map(re.escape, spelt), r"\\[&%$#_{}]"])
    line = text.split(r"\midrule")[1].splitlines()[1].strip()
    cells = re.split(r"(?<!\\) & ", line.removesuffix(r" \\"))
    read = re.sub(pattern, lambda match: spelt.get(match[0], match[0][-1]), cells[0])
    assert len(cells) == 6
    assert read == name.replace("–", "--").replace("--", "–")  # LaTeX itself reads two hyphens as a dash


def test_the_command_writes_the_table_where_it_is_told(
    full_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "table.tex"
    with pytest.raises(SystemExit) as left:
        main(["compare", str(full_run), "--format", "latex", "--out", str(target)])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"table: {target}\n"
    assert target.read_text() == render(across([full_run]), "latex")


def test_aucs_that_the_paper_published_stand_beside_those_of_its_tasks(other_run: Path) -> None:
    document = json.loads((other_run / "run.json").read_text())
    document["pipeline"]["task"] = [
        {"id": "covid-ct", "use": "ctkit-ssl:covid-ct"}, {"id": "organs", "use": "ctkit-ssl:image-folder"},
    ]  # fmt: skip
    (other_run / "run.json").write_text(json.dumps(document))
    rows = as_dicts(render(across([other_run]), "csv"))
    published = {(row["task"], row["published_all"], row["published_reduced"]) for row in rows}
    assert published == {("covid-ct", "0.78", "0.83"), ("organs", "", "")}
    titles = [line for line in render(across([other_run]), "terminal").splitlines() if "AUC" in line]
    assert titles == [
        "study, covid-ct, linear, all labels, AUC; published: all 0.78, reduced 0.83",
        "study, organs, knn, all labels, AUC",
    ]
    header, _, *lines = render(across([other_run]), "markdown").splitlines()[2:]
    assert header.endswith("Published AUC (all, reduced) |")
    assert all(line.endswith("0.78, 0.83 |") == ("covid-ct" in line) for line in lines)
    scores = other_run / "results.csv"  # the paper used all labels
    scores.write_text(scores.read_text().replace(",covid-ct,linear,1.0,", ",covid-ct,linear,0.1,"))
    assert "published" not in render(across([other_run]), "terminal")
    assert "Published" not in render(across([other_run], "f1"), "markdown")


def test_no_figures_of_the_paper_stand_beside_other_tasks(full_run: Path) -> None:
    assert "Published" not in render(across([full_run]), "terminal")
    assert {"organsmnist", "covid-ct", "brain-hemorrhage"} == set(PUBLISHED)
