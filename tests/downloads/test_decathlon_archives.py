"""``ctkit get`` of a set of the Decathlon, from a server on this machine."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit_downloads import decathlon

from .conftest import Server

Run = Callable[..., tuple[int, str, str]]
FILES = {"dataset.json": b"{}", "imagesTr/spleen_1.nii.gz": b"scan", "imagesTr/._spleen_1.nii.gz": b"\0\5\x16\7"}


def archive(files: dict[str, bytes], folder: str = "Task09_Spleen/") -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def publish(server: Server, monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest()
    monkeypatch.setitem(decathlon.SETS, "msd-spleen", decathlon.SETS["msd-spleen"]._replace(md5=md5))
    server.files["Task09_Spleen.tar"] = body


def get(command: Run, server: Server, folder: Path, *options: str) -> tuple[int, str, str]:
    return command("get", "msd-spleen", "--out", str(folder), "--endpoint", server.address, "--yes", *options)


def test_a_set_is_fetched_unpacked_and_found_again(
    command: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, monkeypatch, archive(FILES))
    code, out, _ = get(command, server, tmp_path)
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["Task09_Spleen"]
    for name, content in FILES.items():
        assert (tmp_path / "Task09_Spleen" / name).read_bytes() == content
    assert "msd-spleen: 61 CT scans, most with masks" in out
    assert "licence: CC BY-SA 4.0" in out
    assert 'use = "decathlon"' in out
    server.asked.clear()
    code, out, _ = get(command, server, tmp_path)
    assert (code, server.asked) == (0, [])
    assert "of which 0 B are missing" in out


def test_another_archive_than_the_published_one_is_removed(command: Run, server: Server, tmp_path: Path) -> None:
    server.files["Task09_Spleen.tar"] = archive(FILES)
    code, _, err = get(command, server, tmp_path)
    assert code == 1
    assert "sent another file than the published one" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "body",
    [archive(FILES, "Other/"), archive({"../../evil": b"x"}), archive(FILES)[:700]],
    ids=["of another set", "path that leaves the folder", "cut"],
)
def test_nothing_half_unpacked_is_visible(
    command: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    publish(server, monkeypatch, body)
    code, _, err = get(command, server, tmp_path / "out")
    assert code == 1
    assert "is no archive of Task09_Spleen" in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Task09_Spleen.tar"]
    assert not list(tmp_path.rglob("evil"))


def test_addresses_and_md5_are_those_of_monai() -> None:
    (folder,) = importlib.util.find_spec("monai").submodule_search_locations  # to import it takes long
    source = (Path(folder) / "apps" / "datasets.py").read_text()
    for facts in decathlon.SETS.values():
        assert f'"{facts.folder}": "{facts.md5}"' in source
        assert f'"{facts.folder}": "{decathlon.ENDPOINT}/{facts.folder}.tar"' in source


def test_options_of_other_sets_are_refused(command: Run, tmp_path: Path) -> None:
    for option in (("--patients", "3"), ("--size", "64")):
        code, _, err = command("get", "msd-lung", "--out", str(tmp_path), *option)
        assert code == 2
        assert option[0] in err
