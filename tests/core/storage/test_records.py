"""Tables and documents of a run folder: what is written is read again, digit by digit and row by row."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

from ctkit.contracts import Pretrained
from ctkit.errors import DataError
from ctkit.files import write_csv, write_json
from ctkit.storage import records
from ctkit.storage.records import (
    ComparisonRow,
    CurveRow,
    HistoryRow,
    Place,
    ScoreRow,
    SkippedRow,
    SliceRow,
    VolumeRow,
    read_rows,
    write_rows,
)

NAN = math.nan
PLACE = Place("simclr", "organs", "knn", 0.1)
ROWS: list[tuple[Any, str]] = [
    (
        VolumeRow("3fa9", "p3fa", 133, 512, 512, 0.7, 0.7, NAN, "", NAN, ("a", "b")),
        "3fa9,p3fa,133,512,512,0.7,0.7,,,,a; b",
    ),
    (
        VolumeRow("3fa9", "p3fa", 133, 512, 512, 0.7, 0.7, 2.5, "B30f", 3.0, ()),
        "3fa9,p3fa,133,512,512,0.7,0.7,2.5,B30f,3,",
    ),
    (SkippedRow("a,b/7.dcm", "no CT"), '"a,b/7.dcm",no CT'),
    (SliceRow(7, "3fa9", "a/7.dcm", 6, False, 4, 2.0), "7,3fa9,a/7.dcm,6,false,4,2"),
    (SliceRow(8, "3fa9", "a/8.dcm", 7, True, None, NAN), "8,3fa9,a/8.dcm,7,true,,"),
    (CurveRow(0.0625, 29, 0.805556), "0.0625,29,0.805556"),
    (HistoryRow(3, "loss", 0.1234567890123), "3,loss,0.1234567890123"),
    (
        ScoreRow("all", *PLACE, "42", "all", "auc", 0.75, 0.5, 1.0, NAN, NAN),
        "all,simclr,organs,knn,0.1,42,all,auc,0.75,0.5,1,,",
    ),
    (
        ComparisonRow("few", "all", *PLACE, "auc", -0.25, -0.5, 0.1, 1e-7, 0.5, "DeLong", "same size", "primary"),
        "few,all,simclr,organs,knn,0.1,auc,-0.25,-0.5,0.1,1e-07,0.5,DeLong,same size,primary",
    ),
]  # fmt: skip


def test_a_note_with_a_semicolon_stays_one_note(tmp_path: Path) -> None:
    row = VolumeRow(
        "3fa9", "p3fa", 1, 8, 8, NAN, NAN, NAN, "", NAN, ("each is taken for one; `patient` can say it", "b")
    )
    write_rows(tmp_path / "t.csv", VolumeRow, [row])
    (found,) = read_rows(tmp_path / "t.csv", VolumeRow)
    assert found.notes == ("each is taken for one, `patient` can say it", "b")


@pytest.mark.parametrize(("row", "line"), ROWS, ids=lambda value: type(value).__name__)
def test_a_row_is_one_line_and_is_read_as_it_was(tmp_path: Path, row: Any, line: str) -> None:
    write_rows(tmp_path / "t.csv", type(row), [row])
    assert (tmp_path / "t.csv").read_text() == f"{','.join(row._fields)}\n{line}\n"
    (found,) = read_rows(tmp_path / "t.csv", type(row))
    assert repr(found) == repr(row)  # NaN is not equal to itself


def test_a_table_whose_name_ends_in_gz_is_compressed_and_always_of_the_same_bytes(tmp_path: Path) -> None:
    rows = [row for row, _ in ROWS if isinstance(row, SliceRow)]
    for name in ("t.csv", "t.csv.gz", "other.csv.gz"):
        write_rows(tmp_path / name, SliceRow, rows)
    assert gzip.decompress((tmp_path / "t.csv.gz").read_bytes()) == (tmp_path / "t.csv").read_bytes()
    assert (tmp_path / "t.csv.gz").read_bytes() == (tmp_path / "other.csv.gz").read_bytes()
    assert repr(list(read_rows(tmp_path / "t.csv.gz", SliceRow))) == repr(rows)


def test_numbers_have_six_digits_but_those_of_a_history_all(tmp_path: Path) -> None:
    write_rows(tmp_path / "c.csv", CurveRow, [CurveRow(1 / 3, np.int64(2), 2 / 3)])  # type: ignore[arg-type]  # numpy's
    assert (tmp_path / "c.csv").read_text().splitlines()[1] == "0.333333,2,0.666667"
    write_rows(tmp_path / "h.csv", HistoryRow, [HistoryRow(1, "loss", 1 / 3)])
    assert (tmp_path / "h.csv").read_text().splitlines()[1] == f"1,loss,{1 / 3!r}"


def test_a_history_that_a_method_counts_in_floats_or_has_gaps_is_read(tmp_path: Path) -> None:
    (tmp_path / "h.csv").write_text("step,name,value\n3.0,loss,\n")
    (row,) = read_rows(tmp_path / "h.csv", HistoryRow)
    assert (row.step, math.isnan(row.value)) == (3, True)


def test_rows_pass_one_at_a_time(tmp_path: Path) -> None:
    alive: list[int] = []

    def rows() -> Iterator[SkippedRow]:
        for number in range(3):
            alive.append(number)
            yield SkippedRow(f"{number}.dcm", "x" * 100_000)
            written = sum(path.stat().st_size for path in tmp_path.iterdir())
            assert written >= number * 100_000, "a row is written before the next but one is asked for"

    write_rows(tmp_path / "t.csv", SkippedRow, rows())
    assert alive == [0, 1, 2]
    assert next(read_rows(tmp_path / "t.csv", SkippedRow)).source == "0.dcm"


def test_a_table_that_is_not_there_has_no_rows(tmp_path: Path) -> None:
    assert list(read_rows(tmp_path / "t.csv", CurveRow)) == []


def test_columns_are_found_by_name_and_others_are_no_matter(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("share", "new", "kept", "at"), [(0.5, "x", 3, 6)])
    assert list(read_rows(tmp_path / "t.csv", CurveRow)) == [CurveRow(6.0, 3, 0.5)]


def test_a_table_that_lacks_a_column_is_named(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", ("at", "kept"), [(6, 3)])
    with pytest.raises(DataError, match=r"t\.csv has no column 'share'; run again"):
        list(read_rows(tmp_path / "t.csv", CurveRow))


def test_comparisons_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    row = ComparisonRow("few", "all", *PLACE, "auc", -0.25, -0.5, 0.1, 0.1, 0.5, "DeLong")
    write_csv(tmp_path / "t.csv", ComparisonRow._fields[:-2], [row[:-2]])
    assert list(read_rows(tmp_path / "t.csv", ComparisonRow)) == [row]
    assert (row.contrast, row.family) == ("reference", "")


def test_a_score_knows_its_place() -> None:
    pooled = ScoreRow("all", *PLACE, "all", "all", "auc", 0.75, 0.5, 1.0, NAN, NAN)
    assert pooled.pooled
    assert pooled.place == ComparisonRow("few", "all", *PLACE, "auc", 0.0, 0.0, 0.0, 1.0, 1.0, "none").place == PLACE


@pytest.mark.parametrize("read", [records.read_arm, records.read_training])
def test_a_damaged_document_is_as_none(tmp_path: Path, read: Any) -> None:
    write_json(tmp_path / "x.json", {"arm": "all"})
    assert read(tmp_path / "x.json") == {"arm": "all"}
    (tmp_path / "x.json").write_text('{"arm": ')
    assert read(tmp_path / "x.json") is None


def test_the_facts_of_a_training_hold_all_that_a_method_tells() -> None:
    told = get_type_hints(Pretrained).keys() - {"backbone", "history"}
    assert told <= records.TrainingFacts.__annotations__.keys()
