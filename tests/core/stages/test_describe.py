"""What describing does where plugins fail, files come and go, and arms want different slices."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ctkit import pipeline_file, plugins, runner
from ctkit.compute import Done, Workers
from ctkit.console.output import Console
from ctkit.errors import CtkitError
from ctkit.files import read_csv
from ctkit.session import open_session
from ctkit.slices.rendering import evidence
from ctkit.slices.store import SliceStore
from ctkit.stages import decoding, rescue
from ctkit.stages.decoding import NOT_FINITE, describe_volumes
from ctkit.stages.readings import read_reading
from ctkit.stages.scan import found_before
from ctkit.storage.cache import Cache

MOODY = '''\
import os
import signal
import time
from pathlib import Path
import numpy as np
from typing import Literal
from ctkit.contracts import Dataset, Decision, InputPath, Params, Pixels, Reducer, Skipped, SourceFile, Volume
from ctkit.errors import DataError
from ctkit.hookspecs import Spec, hookimpl

class Root(Params):
    root: InputPath
    slip: Literal["", "twisted", "unit", "nothing", "text"] = ""
    apart: bool = False

class Moody(Dataset[Root]):
    """Slices as .npy files; a file of the same name says how it behaves."""

    def files(self):
        for path in sorted(self.params.root.glob("*.npy")):
            status = path.stat()
            yield SourceFile(path.name, status.st_size, status.st_mtime_ns)

    def inspect(self, file):
        if (self.params.root / file.path).with_suffix(".inspect").exists():
            os.kill(os.getpid(), signal.SIGSTOP)
        if (self.params.root / file.path).with_suffix(".slip").exists():
            return file.nothing
        if (self.params.root / file.path).with_suffix(".own").exists():
            raise DataError("export it anew")
        if (self.params.root / file.path).with_suffix(".none").exists():
            return None
        if (self.params.root / file.path).with_suffix(".locked").exists():
            return Skipped(file.path, "cannot be opened: locked", retry=True)
        return {}

    def arrange(self, headers):
        files = tuple(file for file, _ in headers)
        if self.params.apart:
            for file in files:
                yield Volume(file.path, file.path, (file,), ((0, 0),), 16, 16)
            return
        yield Volume("v", "p", files, tuple((n, 0) for n in range(len(files))), 16, 16)

    def read(self, volume, wanted=None):
        index = np.arange(len(volume)) if wanted is None else wanted
        paths = [self.params.root / volume.source(number) for number in index.tolist()]
        if any(path.with_suffix(".slow").exists() for path in paths):
            time.sleep(60)
        if any(path.with_suffix(".crash").exists() for path in paths):
            os.kill(os.getpid(), signal.SIGKILL)
        if any(path.with_suffix(".read").exists() for path in paths):
            os.kill(os.getpid(), signal.SIGSTOP)
        here = np.array([not path.with_suffix(".gone").exists() for path in paths], bool)
        values = np.stack([np.load(path) for path, there in zip(paths, here) if there])
        skipped = tuple((number, "cannot be opened: gone") for number in index[~here].tolist())
        with (self.params.root / "reads.txt").open("a") as log:
            print("read", *(path.name for path in paths), file=log)
        for number, path in zip(index.tolist(), paths):
            if path.with_suffix(".layout").exists():
                here[index == number] = False
                values = np.delete(values, number, axis=0)
                return Pixels(values, index[here], "arbitrary", ((number, "its memory layout is not supported"),))
        kept, unit = index[here], "arbitrary"
        match self.params.slip:
            case "nothing":
                return None
            case "twisted":
                kept = kept[1:]
            case "unit":
                unit = "hu"
            case "text":
                values = values.astype(str)
        return Pixels(values, kept, unit, skipped, retry=bool(skipped))

class Mood(Params):
    mood: Literal["fine", "slow", "object", "short", "raises", "nan", "inf"] = "fine"

class Temper(Reducer[Mood]):
    """Describes a slice by its sum, when it is in the mood."""

    evidence = "slice"

    def describe(self, slices):
        if self.params.mood == "slow":
            time.sleep(30)
        if self.params.mood == "raises":
            raise ValueError("not today")
        sums = slices.grey.sum(axis=(1, 2)).astype(float)
        if self.params.mood in ("nan", "inf"):
            sums[sums.argmax()] = float(self.params.mood)
        return {"object": sums.astype(object), "short": sums[1:]}.get(self.params.mood, sums)

    def select(self, group, at, rng):
        return Decision(group.evidence >= np.median(group.evidence))

class Pairs(Temper):
    """The same of pairs."""

    evidence = "pair"
    scopes = frozenset({"volume"})

    def describe(self, slices):
        of_each = super().describe(slices)
        first, second = np.triu_indices(len(of_each), 1)
        return of_each[first] + of_each[second]

@hookimpl
def ctkit_register_datasets():
    return [Spec("moody", "slices that come and go", "moody:Moody")]

@hookimpl
def ctkit_register_reducers():
    return [Spec("temper", "a reducer with moods", "moody:Temper"), Spec("pairs", "of pairs", "moody:Pairs")]
'''
SLICES = 8


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of slices of growing brightness, and the plugins that read and describe them."""
    info = tmp_path / "site" / "moody-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moody\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ctkit]\nmoody = moody\n")
    (tmp_path / "site" / "moody.py").write_text(MOODY)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    plugins.load.cache_clear()
    scans = tmp_path / "scans"
    scans.mkdir()
    rng = np.random.default_rng(0)
    for number in range(SLICES):
        np.save(scans / f"{number}.npy", rng.integers(0, 100 * (number + 1), (16, 16)).astype(np.float32))
    yield scans
    plugins.load.cache_clear()


def run(scans: Path, *arms: dict[str, Any], until: Any = "select", **changes: Any) -> Path:
    document = {
        "run": {"name": "x", "out": str(scans.parent / "runs" / "x")},
        "compute": {"workers": 1, "time_limit": changes.pop("time_limit", 60), "device": "cpu"},
        "dataset": {"use": "moody", "root": str(scans), "size": 16, **changes},
        "reduce": list(arms) or [{"use": "temper"}],
        "pretrain": [{"use": "simclr", "backbone": "resnet18", "size": 16, "steps": 1}],
    }
    registry = plugins.load()
    return runner.run(pipeline_file.resolve(document, registry, scans), registry, Console(quiet=True), until).path


def test_a_slice_that_is_skipped_for_good_has_its_volume_decoded_once_for_each_reducer_whatever_the_reason_says(
    scans: Path,
) -> None:
    def reads() -> int:
        return len((scans / "reads.txt").read_text().splitlines())

    (scans / "3.layout").touch()
    first = run(scans)
    assert [number for number, _ in selected(first)] == [0, 1, 2, 4, 5, 6, 7]
    assert reads() == 1
    run(scans)
    assert reads() == 1
    run(scans, {"use": "hash"})  # another reducer, for which the volume is read again without that slice
    assert reads() == 2
    run(scans, {"use": "hash"})
    assert reads() == 2, "no reason is taken for one that may pass"


def selected(folder: Path, arm: str = "temper") -> list[tuple[int, bool]]:
    rows = read_csv(folder / "arms" / arm / "selection.csv")
    return [(int(row["index"]), row["kept"] == "true") for row in rows]


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("slow", r"reducer 'temper': took longer than 1 s, on a volume of 8 slices; raise compute.time_limit"),
        ("object", r"reducer 'temper' must describe 8 slices by numbers \(8, ...\).* but returned \(8,\) object"),
        ("short", r"reducer 'temper' must describe 8 slices by numbers \(8, ...\).* but returned \(7,\)"),
        ("raises", r"reducer 'temper' failed to describe a volume: ValueError: not today"),
    ],
)
def test_a_reducer_that_fails_is_named_and_leaves_the_volume_readable(scans: Path, mood: str, message: str) -> None:
    with pytest.raises(CtkitError, match=message):
        run(scans, {"id": "temper", "use": "temper", "mood": mood}, time_limit=1)
    folder = run(scans)
    assert len(selected(folder)) == SLICES
    assert read_csv(folder / "skipped.csv") == []


@pytest.mark.parametrize("mood", ["nan", "inf"])
@pytest.mark.parametrize("evidence", ["slice", "pair"])
def test_evidence_that_is_not_finite_names_reducer_and_volume_by_its_pseudonym(
    scans: Path, mood: str, evidence: str
) -> None:
    use = "temper" if evidence == "slice" else "pairs"
    with pytest.raises(CtkitError) as caught:
        run(scans, {"use": use, "mood": mood})
    pseudonym = Cache(scans.parent / "runs" / ".cache").pseudonym("v")
    assert str(caught.value).startswith(
        f"reducer {use!r} must describe slices by finite numbers, but its evidence holds NaN"
    )
    assert f"(volume {pseudonym})" in str(caught.value)
    assert "(volume v)" not in str(caught.value)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ("twisted", r"values must be \(7, 16, 16\).*, but they are \(8, 16, 16\) float32"),
        ("unit", "unit must be 'HU' or 'arbitrary', but it is 'hu'; choose one"),
        ("nothing", "read must return Pixels, but it is of type NoneType"),
        ("text", "values must be int16 for Hounsfield units, and numbers otherwise, but they are .*<U"),
    ],
)
def test_a_data_set_that_reads_what_it_must_not_is_named(scans: Path, slip: str, message: str) -> None:
    with pytest.raises(CtkitError, match=f"data set 'moody': {message}"):
        run(scans, slip=slip)


def test_a_slice_that_is_not_finite_is_left_out_and_darkens_no_other(scans: Path) -> None:
    for number, value in ((2, np.nan), (5, np.inf)):
        path = scans / f"{number}.npy"
        pixels = np.load(path)
        pixels[3, 3] = value
        np.save(path, pixels)
    folder = run(scans, {"use": "all"}, until="materialise")
    assert read_csv(folder / "skipped.csv") == [{"source": f"{number}.npy", "reason": NOT_FINITE} for number in (2, 5)]
    assert first_row(folder, scans, [0, 1, 3, 4, 6, 7]).max() > 0


def test_a_file_that_could_not_be_opened_is_looked_at_again(scans: Path) -> None:
    (scans / "3.locked").touch()
    folder = run(scans)
    assert [row["reason"] for row in read_csv(folder / "skipped.csv")] == ["cannot be opened: locked"]
    assert len(selected(folder)) == SLICES - 1
    (scans / "3.locked").unlink()
    folder = run(scans)
    assert len(selected(folder)) == SLICES
    assert read_csv(folder / "skipped.csv") == []


@pytest.mark.parametrize(
    ("slip", "reason", "again"),
    [
        (".slip", "its header cannot be read (AttributeError)", False),  # as of a header that lacks an element
        (".own", "export it anew", False),
        (".none", "the data set plugin must return facts or Skipped for it, but returned NoneType", True),
    ],
)
def test_a_file_that_cannot_be_the_reason_is_looked_at_again(scans: Path, slip: str, reason: str, again: bool) -> None:
    hint, row = (scans / "3.npy").with_suffix(slip), {"source": "3.npy", "reason": reason}
    hint.touch()
    assert read_csv(run(scans) / "skipped.csv") == [row]
    hint.unlink()
    assert read_csv(run(scans) / "skipped.csv") == ([] if again else [row])


def reads_of(scans: Path) -> dict[str, int]:
    """How often each file was read to the end."""
    log = scans / "reads.txt"
    return dict(Counter(line.partition(" ")[2] for line in log.read_text().splitlines())) if log.exists() else {}


@pytest.fixture
def many(scans: Path) -> list[str]:
    """Twenty-four volumes of one slice, which workers are given several of at once."""
    for number in range(SLICES, 24):
        np.save(scans / f"{number}.npy", np.full((16, 16), number, np.float32))
    return sorted(path.name for path in scans.glob("*.npy"))


def test_a_volume_that_ends_its_process_costs_none_of_those_beside_it(scans: Path, many: list[str]) -> None:
    expected = [row["kept"] for row in read_csv(run(scans, apart=True) / "arms" / "temper" / "selection.csv")]
    shutil.rmtree(scans.parent / "runs" / ".cache")
    (scans / "15.crash").touch()
    folder = run(scans, apart=True)
    rows = read_csv(folder / "arms" / "temper" / "selection.csv")
    assert [row["source"] for row in rows] == [name for name in many if name != "15.npy"]
    lost = many.index("15.npy")
    assert [row["kept"] for row in rows] == expected[:lost] + expected[lost + 1 :]
    (skipped,) = read_csv(folder / "skipped.csv")
    assert (skipped["source"], "died" in skipped["reason"] or "killed" in skipped["reason"]) == ("15.npy", True)
    (scans / "15.crash").unlink()
    before = reads_of(scans)
    assert [row["kept"] for row in read_csv(run(scans, apart=True) / "arms" / "temper" / "selection.csv")] == expected
    now = reads_of(scans)
    assert {name for name in now if now[name] != before.get(name)} == {"15.npy"}, "the others are read no more"


def test_volumes_are_described_together_and_none_twice_where_time_runs_out(
    scans: Path, many: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []

    def counted(*arguments: Any) -> Any:
        batches.append(len(arguments[-1]))
        return describe_volumes(*arguments)

    monkeypatch.setattr(Workers, "run", lambda self, work, items, *, name: (Done(item, work(item)) for item in items))
    monkeypatch.setattr(rescue, "describe_volumes", counted)
    expected = (run(scans, apart=True) / "arms" / "temper" / "selection.csv").read_bytes()
    assert (max(batches), sum(batches)) == (6, 24), "a quarter for each of the workers"
    shutil.rmtree(scans.parent / "runs" / ".cache")
    (scans / "reads.txt").unlink()
    batches.clear()
    monkeypatch.setattr(decoding, "ENOUGH", -1.0)
    rows = read_csv(run(scans, apart=True) / "arms" / "temper" / "selection.csv")
    assert [row["source"] for row in rows] == many
    assert reads_of(scans) == dict.fromkeys(many, 1)
    assert len(batches) == 24, "one of each batch had time"
    assert len(expected.splitlines()) == 25


@pytest.mark.parametrize("kind", ["reading", "evidence"])
def test_one_volume_s_damage_costs_one_volume(scans: Path, many: list[str], kind: str) -> None:
    expected = selected(run(scans, apart=True))
    (pack,) = (scans.parent / "runs" / ".cache" / kind).rglob("*.entry")
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    shutil.rmtree(scans.parent / "runs" / ".cache" / "selection")
    before = reads_of(scans)
    assert selected(run(scans, apart=True)) == expected
    now = reads_of(scans)
    assert sum(now.values()) - sum(before.values()) == 1


def test_a_slice_that_could_not_be_read_is_read_again_and_its_neighbours_keep_their_evidence(scans: Path) -> None:
    expected = selected(run(scans))
    for path in (scans.parent / "runs").rglob("*.entry"):
        if path.parts[-3] == "reading":
            path.unlink()
    (scans / "2.gone").touch()
    folder = run(scans)
    left = [0, 1, 3, 4, 5, 6, 7]
    sums = evidence(np.stack([np.load(scans / f"{number}.npy") for number in left])).sum(axis=(1, 2))
    assert selected(folder) == list(zip(left, (sums >= np.median(sums)).tolist(), strict=True))
    (scans / "2.gone").unlink()
    assert selected(run(scans)) == expected


def test_a_slice_looks_the_same_whatever_other_arms_there_are(scans: Path) -> None:
    alone = first_row(run(scans, {"use": "every-n", "n": 7, "scope": "volume"}, until="materialise"), scans, [0, 7])
    for path in sorted((scans.parent / "runs" / ".cache" / "store").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    both = run(scans, {"use": "every-n", "n": 7}, {"use": "all"}, until="materialise")
    few = run(scans, {"use": "every-n", "n": 4}, until="materialise")
    assert np.array_equal(alone, first_row(both, scans, [0]))
    assert np.array_equal(alone, first_row(few, scans, [0, 4]))


def test_slices_are_stored_anew_when_another_one_widens_their_range(scans: Path) -> None:
    (scans / "7.gone").touch()
    run(scans, {"use": "every-n", "n": 7}, until="materialise")
    (scans / "7.gone").unlink()
    wide = run(scans, {"use": "every-n", "n": 7}, until="materialise")
    expected = np.load(scans / "0.npy").astype(np.float64) * 255 / np.load(scans / "7.npy").max()
    assert np.abs(first_row(wide, scans, [0, 7]) - expected).max() <= 1


def test_a_slice_that_hung_is_tried_again_with_more_time(scans: Path) -> None:
    (scans / "3.slow").touch()
    folder = run(scans, time_limit=1)
    assert [row["reason"] for row in read_csv(folder / "skipped.csv")] == ["took longer than 1 s"]
    (scans / "3.slow").unlink()
    assert len(selected(run(scans, time_limit=1))) == SLICES - 1
    assert len(selected(run(scans, time_limit=30))) == SLICES


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system has no SIGSTOP")
@pytest.mark.parametrize("stopping", ["inspect", "read"])
def test_a_slice_whose_process_was_stopped_costs_its_time_limit_and_is_tried_again(scans: Path, stopping: str) -> None:
    (scans / "3.npy").with_suffix(f".{stopping}").touch()
    folder = run(scans, time_limit=1)
    reason = "the process that worked on it was stopped, or waited for a disk, for 1 s"
    assert [row["reason"] for row in read_csv(folder / "skipped.csv")] == [reason]
    assert len(selected(folder)) == SLICES - 1
    (scans / "3.npy").with_suffix(f".{stopping}").unlink()
    assert len(selected(run(scans, time_limit=1))) == SLICES


def first_row(folder: Path, scans: Path, index: list[int]) -> Any:
    """Row of slice 0 in the smallest shard that holds the given slices."""
    registry = plugins.load()
    document = {
        "run": {"name": "x", "out": str(folder)},
        "dataset": {"use": "moody", "root": str(scans), "size": 16},
        "reduce": [{"use": "all"}],
    }
    resolved = pipeline_file.resolve(document, registry, scans)
    cache = Cache.beside(folder)
    _, scan = found_before(open_session(resolved, registry, Console(quiet=True), runner.run_folder(resolved)))
    assert scan is not None
    reading = read_reading(cache, scan.catalogue.address(0))
    assert reading is not None
    assert reading.span[1] > 700
    shard = SliceStore(cache, resolved.rendering.model_dump(mode="json")).find(
        reading.shown(scan.catalogue.address(0), "hu-window"), np.array(index)
    )
    assert shard is not None
    return np.load(shard.pixels)[0]
