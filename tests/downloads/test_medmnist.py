"""``ctkit get`` of a set of MedMNIST, from a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit_downloads import medmnist

from .conftest import Server

Run = Callable[..., tuple[int, str, str]]
BODY = bytes(range(256)) * 12_000  # 3 MB: more than a block


@pytest.fixture
def published(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server with the published file of organsmnist at 64 pixels, as far as its MD5 is concerned."""
    facts = medmnist.SETS["organsmnist"]
    digest = hashlib.md5(BODY, usedforsecurity=False).hexdigest()
    md5s = (facts.md5[0], digest, *facts.md5[2:])
    monkeypatch.setitem(medmnist.SETS, "organsmnist", dataclasses.replace(facts, md5=md5s))
    server.files["organsmnist_64.npz"] = BODY
    return server


def _get(command: Run, server: Server, folder: Path, *options: str, name: str = "organsmnist") -> tuple[int, str, str]:
    return command("get", name, "--size", "64", "--out", str(folder), "--endpoint", server.address, *options)


def test_a_file_is_fetched_and_its_terms_are_said(command: Run, published: Server, tmp_path: Path) -> None:
    code, out, _ = _get(command, published, tmp_path / "new", "--yes")
    assert code == 0
    assert (tmp_path / "new/organsmnist_64.npz").read_bytes() == BODY
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["organsmnist_64.npz"]
    assert "organsmnist: 25211 images of 64 pixels, 3.1 MB, of which 3.1 MB are missing" in out
    assert "licence: CC BY 4.0" in out
    assert "doi:10.1038/s41597-022-01721-8" in out
    assert 'use = "organsmnist", root = ..., size = 64' in out


def test_a_whole_file_is_not_fetched_again(command: Run, published: Server, tmp_path: Path) -> None:
    (tmp_path / "organsmnist_64.npz").write_bytes(BODY)
    code, out, _ = _get(command, published, tmp_path)
    assert (code, published.asked) == (0, [])
    assert "of which 0 B are missing" in out


def test_a_download_that_broke_off_goes_on(command: Run, published: Server, tmp_path: Path) -> None:
    published.asked.clear()
    part = tmp_path / "organsmnist_64.npz.part"
    part.write_bytes(BODY[:2_000_000])
    code, out, _ = _get(command, published, tmp_path, "--yes")
    assert code == 0
    assert "of which 1.1 MB are missing" in out
    assert ("/organsmnist_64.npz", "bytes=2000000-") in published.asked
    assert (tmp_path / "organsmnist_64.npz").read_bytes() == BODY


def test_a_server_without_ranges_sends_all_again(command: Run, published: Server, tmp_path: Path) -> None:
    published.knows_ranges = False
    (tmp_path / "organsmnist_64.npz.part").write_bytes(b"x" * 1000)
    assert _get(command, published, tmp_path, "--yes")[0] == 0
    assert (tmp_path / "organsmnist_64.npz").read_bytes() == BODY


def test_what_came_before_the_connection_broke_stays(command: Run, published: Server, tmp_path: Path) -> None:
    sizes = medmnist.FileOrder("organsmnist", 64, tmp_path, published.address)
    assert sizes.missing == len(BODY)  # the size is asked for before the body breaks
    published.breaks_after = 2_500_000
    with pytest.raises(Exception, match="sent 2500000 of 3072000 bytes; the same command downloads the rest"):
        sizes.fetch()
    assert not (tmp_path / "organsmnist_64.npz").exists()
    assert _get(command, published, tmp_path, "--yes")[0] == 0
    assert published.asked[-1] == ("/organsmnist_64.npz", "bytes=2500000-")
    assert (tmp_path / "organsmnist_64.npz").read_bytes() == BODY


def test_another_file_than_the_published_one_is_refused(command: Run, published: Server, tmp_path: Path) -> None:
    published.files["organsmnist_64.npz"] = BODY[::-1]
    code, _, err = _get(command, published, tmp_path, "--yes")
    assert code == 1
    assert "the server sent another file than the published one" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("chestmnist",), "several labels per image"),
        (("organmnist3d",), "ctkit reads only 2-D sets"),
        (("organmnist",), "did you mean 'organsmnist'?"),
        (("organsmnist", "--patients", "3"), "--patients is for sets of scans"),
        (("lidc-idri", "--size", "64"), "--size is for sets of MedMNIST"),
        (("organsmnist", "--endpoint", "file:///etc"), "is not the address of a server"),
    ],
)
def test_a_wrong_request_is_said_before_anything_is_fetched(
    command: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = command("get", *arguments, "--out", str(tmp_path / "new"), "--yes")
    assert code == 2
    assert message in err
    assert not (tmp_path / "new").exists()


def test_nothing_is_fetched_without_an_answer(command: Run, published: Server, tmp_path: Path) -> None:
    code, _, err = _get(command, published, tmp_path)
    assert code == 2
    assert "add --yes to download, or --dry-run to only look" in err
    code, out, _ = _get(command, published, tmp_path, "--dry-run", "--json")
    assert code == 0
    assert all(json.loads(line)["event"] == "message" for line in out.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_is_not_there_is_said(command: Run, published: Server, tmp_path: Path) -> None:
    published.address = "http://127.0.0.1:9"
    code, _, err = _get(command, published, tmp_path, "--yes")
    assert code == 1
    assert "cannot be reached" in err
    published.files.clear()


def test_every_listed_file_has_four_checksums() -> None:
    sums = [md5 for facts in medmnist.SETS.values() for md5 in facts.md5]
    assert len(set(sums)) == 4 * len(medmnist.SETS)
    assert all(len(md5) == 32 and int(md5, 16) for md5 in sums)
