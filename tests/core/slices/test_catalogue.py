"""The catalogue of volumes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctkit.contracts import SourceFile, Volume
from ctkit.errors import CtkitError
from ctkit.slices.catalogue import Catalogue, write_catalogue

DATASET = {"plugin": "some-digest:x"}


def volume(patient: str, key: str, slices: int = 2, **more: object) -> Volume:
    files = tuple(SourceFile(f"{patient}/{key}/{number}.dcm", 10, 7) for number in range(slices))
    places = tuple((number, 0) for number in range(slices))
    return Volume(key, patient, files, places, 4, 5, **more)  # type: ignore[arg-type]  # a test's shorthand


def test_volumes_come_back_as_they_were_in_the_order_of_patient_and_key(tmp_path: Path) -> None:
    volumes = [
        volume("b", "0", 3, spacing=(0.5, 0.5, None), notes=("tilt 3 degrees",)),
        volume("a", "2", order=("x_1", "x_10"), details={"padding": -2000}),
        volume("a", "1"),
    ]
    write_catalogue(tmp_path, iter(volumes), DATASET)
    catalogue = Catalogue(tmp_path)
    assert list(catalogue) == [volumes[2], volumes[1], volumes[0]]
    assert [catalogue[number] for number in range(len(catalogue))] == list(catalogue)
    assert catalogue.counts.tolist() == [2, 2, 3]
    assert catalogue.patients.tolist() == [0, 0, 1]
    assert catalogue.ordered


def test_an_address_changes_with_a_file_and_with_the_plugin(tmp_path: Path) -> None:
    def address_of(one: Volume, version: int, folder: Path) -> str:
        folder.mkdir()
        write_catalogue(folder, [one], DATASET | {"version": version})
        return Catalogue(folder).address(0)

    same = address_of(volume("a", "1"), 1, tmp_path / "1")
    assert same == address_of(volume("a", "1"), 1, tmp_path / "2")
    assert same != address_of(volume("a", "1"), 2, tmp_path / "3")
    assert same != address_of(volume("a", "1", 3), 1, tmp_path / "4")


def test_a_file_name_that_is_no_utf8_survives(tmp_path: Path) -> None:
    odd = volume(b"\xe4".decode("utf-8", "surrogateescape"), "1")
    write_catalogue(tmp_path, [odd], DATASET)
    assert list(Catalogue(tmp_path)) == [odd]


def test_nothing_is_a_catalogue_too(tmp_path: Path) -> None:
    write_catalogue(tmp_path, [], DATASET)
    assert len(Catalogue(tmp_path)) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patient": 7}, "a volume must have a key and a patient, both strings, but they are of types str and int"),
        (
            {"order": ("a",)},
            "order must have a string for each slice, or be empty, but it has 1",
        ),
        ({"details": {"box": np.arange(3)}}, "details must be values that JSON supports, but TypeError was raised"),
        ({"slices": ()}, "a volume must have pixels, but it is empty"),
        ({"slices": ((0, 0), (9, 0))}, "each slice must be a different frame of one of the volume's files"),
    ],
    ids=str,
)
def test_a_volume_that_does_not_hold_together_is_refused_by_name(
    wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CtkitError, match=f"data set 'x': {message}"):
        write_catalogue(tmp_path, [replace(volume("a", "1"), **wrong)], DATASET)


def test_a_data_set_that_fails_to_arrange_is_named(tmp_path: Path) -> None:
    def volumes() -> Iterator[Volume]:
        yield volume("a", "1")
        raise KeyError("z")

    with pytest.raises(CtkitError, match="data set 'x' failed in arrange: KeyError: 'z'"):
        write_catalogue(tmp_path, volumes(), DATASET)


def test_two_volumes_of_one_key_are_refused_and_not_named(tmp_path: Path) -> None:
    """All results know a volume by its key, so that two scans would become one."""
    with pytest.raises(
        CtkitError, match=r"data set '\w+': volumes must have different keys, but 1 are doubled"
    ) as told:
        write_catalogue(tmp_path, [volume("Jane", "1"), volume("Joan", "2"), volume("Jim", "1")], DATASET)
    assert "Jane" not in str(told.value)
