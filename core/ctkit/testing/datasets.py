"""The checks of datasets: every file accounted for, volumes that hold together, reading that repeats itself."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from ctkit.contracts import Dataset, Ints, Params, Pixels, Skipped, SourceFile, Volume
from ctkit.contracts.judge import Judge
from ctkit.errors import DataError
from ctkit.promises import check_keys, check_pixels, check_volume, json_of
from ctkit.slices.rendering import ends_of
from ctkit.testing.plugins import Checks, Once

Headers = list[tuple[SourceFile, Mapping[str, Any]]]


class DatasetChecks(Checks[Dataset[Any]]):
    """Of a data set, on the data its parameters name; the pixels of the first ``volumes`` volumes are read."""

    kind = "dataset"

    def __init__(self, plugin: type[Dataset[Any]], params: Params | None = None, *, volumes: int = 2) -> None:
        super().__init__(plugin, params)
        self._volumes = volumes

    @Once
    def files(self) -> list[SourceFile]:
        """Every file."""
        with self.judge.calling("files"):
            return list(self.built.files())

    @Once
    def inspected(self) -> tuple[Headers, list[Skipped]]:
        """What is in their headers, and what is left out."""
        headers: Headers = []
        skipped: list[Skipped] = []
        for file in self.files:
            with self.judge.calling("inspect"):
                found, again = self.built.inspect(file), self.built.inspect(file)
            if isinstance(found, Skipped):
                self.judge.must(
                    found.source == file.path,
                    f"a Skipped must name its file, but it names {found.source!r}; use path",
                )
                skipped.append(found)
            else:
                headers.append(
                    (file, json.loads(json_of(self.judge, "inspect must return values that JSON supports", found)))
                )
            self.judge.must(found == again, "inspect must be pure, but a second call differs; keep no state")
        return headers, skipped

    @Once
    def arranged(self) -> list[Volume | Skipped]:
        """The volumes, and what is left out."""
        judge, dataset, headers = self.judge, self.built, self.inspected[0]
        with judge.calling("arrange"):
            found = list(dataset.arrange(iter(headers)))
        for one in found:
            if not isinstance(one, Skipped):
                check_volume(judge, one)
        judge.must(
            found == list(dataset.arrange(iter(headers))),
            "arrange must give the same volumes for the same headers, but a second call differs; sort what comes from"
            " sets and dicts",
        )
        return found

    def check_pickling(self) -> None:
        """A data set must survive pickling."""
        self.must_survive_pickling()

    def check_files(self) -> None:
        """Files must be given once each, in a fixed order, with the facts of their folder entries."""
        judge, dataset, files = self.judge, self.built, self.files
        strangers = {type(file).__name__ for file in files if not isinstance(file, SourceFile)}
        judge.must(
            not strangers,
            f"files must give SourceFile objects, but it gave {', '.join(strangers)}; build them from stat",
        )
        judge.must(
            files == list(dataset.files()),
            "files must come in a fixed order, but a second call differs; sort each folder",
        )
        doubled = [path for path, count in Counter(file.path for file in files).items() if count > 1]
        judge.must(
            not doubled, f"files must give each file once, but it gave {doubled[:3]} twice; follow no links twice"
        )
        root = dataset.root
        for file in files:
            relative = not file.path.startswith("/") and "\\" not in file.path and ".." not in file.path.split("/")
            judge.must(
                relative,
                f"paths must be relative to the root, with forward slashes, but {file.path}; use Path.as_posix",
            )
            judge.must(root is not None, "a dataset with files must have a root, but root is None; override root")
            assert root is not None
            judge.must((root / file.path).is_file(), f"files must give existing files, but {file.path} does not; look")
            facts = (root / file.path).stat()
            judge.must(
                (facts.st_size, facts.st_mtime_ns) == (file.size, file.mtime_ns),
                f"a file's size and time must be those of its folder entry, but {file} has"
                f" {facts.st_size} bytes and time {facts.st_mtime_ns}; take them from stat: they show which files"
                " changed",
            )

    def check_inspect(self) -> None:
        """Headers must be pure facts that JSON supports."""
        assert self.inspected

    def check_arrange(self) -> None:
        """Volumes must hold together and be the same each time."""
        assert self.arranged is not None

    def check_accounts(self) -> None:
        """Every file must end in a volume or in one Skipped, whose reason names no patient."""
        skipped = self.inspected[1] + [item for item in self.arranged if isinstance(item, Skipped)]
        used = {file.path for volume in self._found() for file in volume.files}
        left = Counter(item.source for item in skipped)
        known = {file.path for file in self.files}
        accounts = {
            "neither in a volume nor skipped": known - used - left.keys(),
            "both in a volume and skipped": used & left.keys(),
            "skipped twice": {path for path, count in left.items() if count > 1},
            "not among files()": (used | left.keys()) - known,
        }
        for what, paths in accounts.items():
            self.judge.must(
                not paths,
                f"every file must end in a volume or in exactly one Skipped, but {len(paths)} are {what}, such"
                f" as {min(paths, default='')!r}; yield a Skipped with the reason for each file that belongs to no"
                " volume",
            )
        for item in skipped:
            _check_discreet(self.judge, item.reason, item.source)

    def check_volumes(self) -> None:
        """Volumes must have keys of their own and notes that name no patient."""
        judge, volumes = self.judge, self._found()
        judge.must(volumes, "there must be a volume to check, but there is none; pass parameters of data that has one")
        check_keys(judge, [volume.key for volume in volumes])
        for volume in volumes:
            for note, file in itertools.product(volume.notes, volume.files):
                _check_discreet(judge, note, file.path)

    def check_reading(self) -> None:
        """Reading must give the same pixels each time, whole or in part."""
        for volume in self._found()[: self._volumes]:
            _check_reading(self.judge, self.built, self.plugin(self.params), volume)

    def check_facts(self) -> None:
        """Facts and places must be those of the slices."""
        for volume in self._found()[: self._volumes]:
            _check_facts(self.judge, self.built, volume)
            _check_places(self.judge, self.built, volume)

    def _found(self) -> list[Volume]:
        return [item for item in self.arranged if isinstance(item, Volume)]


def _check_discreet(judge: Judge, reason: str, path: str) -> None:
    """A reason must not tell a path, nor a part of one that may name a patient."""
    names = {part for whole in PurePosixPath(path).parts for part in (whole, whole.partition(".")[0])}
    telling = {path, PurePosixPath(path).name, *filter(_may_identify, names)} - {""}
    told = [part for part in telling if part in reason]
    judge.must(
        reason and not told,
        f"a reason must say why, without path, patient or date (the path has its own column), but it is {reason!r};"
        " leave them out",
    )


def _may_identify(name: str) -> bool:
    """Whether a name looks like an id: a long number, or letters with a number."""
    digits = sum(character.isdigit() for character in name)
    return digits >= 6 or (digits > 0 and len(name) > 3 and not name.isdigit())


def _check_reading(judge: Judge, dataset: Dataset[Any], fresh: Dataset[Any], volume: Volume) -> None:
    """Read a volume whole and in part, and once more as another process does: with facts that were kept as JSON."""
    kept = replace(
        volume, details=json.loads(json_of(judge, "details must be values that JSON supports", volume.details))
    )
    whole, again = _read(judge, dataset, volume, None), _read(judge, fresh, kept, None)
    judge.must(
        (whole is None) == (again is None),
        "reading must give the same result each time, but it does not; keep no state",
    )
    if whole is None or again is None:
        return
    judge.must(
        np.array_equal(whole.index, again.index) and np.array_equal(whole.values, again.values),
        "reading a volume must give the same each time, also when its details come back from JSON,"
        " but it gives other pixels; keep no state, and expect lists instead of tuples",
    )
    with judge.calling("read_blocks"):
        blocks = [(one.index, one.values.copy(), one.skipped) for one in dataset.read_blocks(volume)]
    index, values, skipped = ([part for block in blocks for part in block[of]] for of in range(3))
    judge.must(
        np.array_equal(index, whole.index) and np.array_equal(values, whole.values) and tuple(skipped) == whole.skipped,
        "read_blocks must give what read does, in the same order, but it differs; override both, or read alone",
    )
    for wanted in (np.arange(n := len(volume)), np.array([n - 1]), np.arange(0, n, 3)):
        part = _read(judge, dataset, volume, wanted)
        if part is not None:
            same = np.isin(whole.index, wanted)
            judge.must(
                np.array_equal(part.index, whole.index[same]) and np.array_equal(part.values, whole.values[same]),
                "reading some slices must give the same pixels as reading all, but it differs for slices"
                f" {wanted.tolist()}; let no slice depend on the others that are read",
            )


def _read(judge: Judge, dataset: Dataset[Any], volume: Volume, wanted: Ints | None) -> Pixels | None:
    """Read slices; None where nothing of them can be read, which a dataset may say by an error."""
    promise = "read must skip a bad slice, and raise ctkit.errors.DataError if nothing can be read"
    try:
        with judge.keeping(promise, "catch what decoders raise", DataError):
            pixels = dataset.read(volume, wanted)
    except DataError:
        return None
    check_pixels(judge, volume, pixels, np.arange(len(volume)) if wanted is None else wanted)
    values = pixels.values
    judge.must(values.dtype.kind != "f" or np.isfinite(values).all(), "values must be finite, but some are not; fill")
    judge.must(
        pixels.ends is None or np.array_equal(pixels.ends, ends_of(values)),
        "ends must be the lowest and highest value of each slice, but they are not; leave them out, and ctkit looks",
    )
    for number, reason in pixels.skipped:
        _check_discreet(judge, reason, volume.source(number))
    return pixels


def _check_facts(judge: Judge, dataset: Dataset[Any], volume: Volume) -> None:
    facts = dataset.facts(volume)
    judge.must(facts == dataset.facts(volume), "facts must be pure, but a second call differs; keep no state")
    outside = [number for found in facts.findings.values() for number in found if not 0 <= number < len(volume)]
    judge.must(
        not outside,
        "findings must be numbers of the volume's slices,"
        f" but {outside[:3]} are none of its {len(volume)}; count slices as Volume.slices does",
    )
    told = [name for name, value in facts.traits.items() if value in (volume.patient, volume.key)]
    judge.must(not told, f"traits must not identify the patient, but {told[0] if told else ''} does; leave it out")


def _check_places(judge: Judge, dataset: Dataset[Any], volume: Volume) -> None:
    index = np.arange(len(volume))[::2]
    places = dataset.places(volume, index)
    if places is None:
        return
    shape = (len(index), 3, 3)
    judge.must(
        places.shape == shape and np.isfinite(places).all(),
        f"places must be None, or {shape} and finite for {len(index)} slices,"
        f" but they are {places.shape}; give a matrix for each slice, or None for a slice without a position",
    )
