"""What the path of a NIfTI file says: whose it is, and whether it is CT, by the layouts that public archives have.

TotalSegmentator (``s0001/ct.nii.gz``, ``s0001/segmentations/``), nnU-Net and the Medical Segmentation Decathlon
(``imagesTr/CASE_0000.nii.gz``, ``labelsTr``, ``dataset.json``), KiTS (``case_00000/imaging.nii.gz``), FDG-PET-CT
(``PATIENT/STUDY/CT.nii.gz`` beside ``SEG.nii.gz``), autoPET III, and BIDS (``sub-X/ses-Y/ct/``, ``derivatives``).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

SUFFIX = re.compile(r"\.(nii(\.gz)?|mhd|mha|nrrd|nhdr)$", re.IGNORECASE)  #: of files that hold a volume
PET_CT_TREE = ("CT", "CTres", "PET", "SUV", "SEG")  #: names of FDG-PET-CT-Lesions; CTres is CT on the grid of the PET
NNUNET_IMAGES = re.compile(r"images(tr|ts|va|val)$", re.IGNORECASE)
BIDS_SUBJECT = re.compile(r"sub-[a-z0-9]+", re.IGNORECASE)

_MASK_FOLDER = re.compile(r"(segmentations?|masks?|labels?|labels(tr|ts|va|val)|ground_?truths?|gt)$", re.IGNORECASE)
_SUBJECTS = {"ct": r"s\d{4,}", "imaging": r"case_\d+"}  # of TotalSegmentator and KiTS, by the names of their scans
_CHANNEL = re.compile(r"(.+)_(\d{4})$")
_CHANNELS = 10  # a case has fewer
_CT = re.compile(r"(?<![a-z])(ld|nc|ce|cb)?ct(?![a-z])", re.IGNORECASE)
_SCALES = {"nonorm", "zscore", "rescale_to_0_1", "rescale_0_1"}  # nnU-Net's ways to scale a channel: no modality
_AUTOPET = re.compile(r"((?:fdg|psma|tcia)_[0-9a-z]+)_\d{2,4}-\d{2}-\d{2,4}.*$", re.IGNORECASE)
_OTHERS = {  # last words of names, as far as these mean nothing else; t1 may be a time, dose a low one
    *("pet", "suv", "mri", "t1w", "t2w", "pdw", "flair", "adc", "dwi", "bold", "sbref", "asl", "t2star", "rtdose")
}
_LARGEST = 16 << 20  # bytes of a dataset.json; it may list every case

# Names of folders that hold many patients' data, and those words that make one of them with a number too.
_PARTS = {
    *("train", "training", "tr", "val", "valid", "validation", "va", "test", "testing", "ts", "dev", "batch", "part"),
    *("fold", "subset", "split", "chunk", "images", "labels", "dataset", "task", "data", "release", "version", "phase"),
    *("site", "center", "centre", "hospital", "clinic", "institution", "scanner", "cohort"),
}
_FORMS = {  # folders of these names beside each other hold the same patients
    *("image", "img", "imgs", "nii", "niigz", "nifti", "niftis", "volume", "volumes", "vol", "vols", "scan", "scans"),
    *("ct", "cts", "cta", "raw", "rawdata", "source", "sourcedata", "gz", "preprocessed", "resampled", "derivatives"),
    *("original", "originals", "anat", "images"),
}
_SHARED = (_PARTS | _FORMS) | {
    *("label", "mask", "masks", "datasets", "set", "public", "private", "patients", "cases", "subjects", "studies"),
    *("all", "input", "inputs", "output", "nnunet", "the", "of", "and", "files", "new"),
}
_PATIENT = re.compile(r"(pt|pat|patient|sub|subj|subject|case|person)[ _-]?\d+[a-z]?", re.IGNORECASE)
_SESSION = re.compile(r"ses-[a-z0-9]+", re.IGNORECASE)
_SOME, _MANY = 3, 10  # files with names of their own, directly in one folder: it may be shared, and it is


_NAMESAKE = "patients of one name in different folders are taken for different ones; `patient` can say otherwise"
_GUESSED = "nothing says which scans are of one patient, so each is taken for one of its own; `patient` can say it"


class Role(NamedTuple):
    """What a file is."""

    patient: str
    reason: str = ""  #: why it is no CT, "" where it may be
    note: str = ""  #: what is not sure about the patient


def mask_by_place(path: str) -> str:
    """Return why a file is no CT by the folders it lies in alone, "" where they leave that open."""
    folders = path.split("/")[:-1]
    if folders and _MASK_FOLDER.match(folders[-1]):
        return "a segmentation, by the name of its folder"
    below = {name.lower() for name in folders}
    if "derivatives" in below and any(BIDS_SUBJECT.fullmatch(name) for name in folders):
        return "derived from a scan, as all derivatives of BIDS"
    return ""


def roles(root: Path, paths: Sequence[str]) -> Iterator[Role]:
    """Yield what each of the files is that are no segmentations by their place or their values."""
    channels = _Channels(root, paths)
    siblings: dict[str, set[str]] = defaultdict(set)
    for path in paths:
        siblings[path.rpartition("/")[0]].add(stem(path))
    known = {path: _layout_patient(path) or channels.case(path) for path in paths}
    places = {path: (place, "") for path, place in known.items() if place}
    _descend([(path, path.split("/")) for path in paths if path not in places], "", "", places)
    alike: dict[str, set[str]] = defaultdict(set)
    for place, _ in places.values():
        alike[place.rpartition("/")[2]].add(_apart(place))
    for path in paths:
        place, note = places[path]
        name = place.rpartition("/")[2]
        reason = channels.reason(path) if channels.are_of(path) else _name_reason(path, siblings)
        if len(alike[name]) > 1:
            name, note = _apart(place), _NAMESAKE
        yield Role(name, reason, note)


def stem(path: str) -> str:
    """The name of a file without folders and suffix."""
    return SUFFIX.sub("", path.rpartition("/")[2])


def dataset_json(folder: Path) -> dict[str, Any]:
    """Return what ``dataset.json`` in a folder says, {} where there is none or a damaged one."""
    path = folder / "dataset.json"
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= _LARGEST else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


# --- modalities ---------------------------------------------------------------------------------------------------


def _name_reason(path: str, siblings: Mapping[str, set[str]]) -> str:
    name, beside = stem(path), siblings[path.rpartition("/")[0]]
    if name in PET_CT_TREE and beside & {"CT", "CTres"} and len(beside & set(PET_CT_TREE)) > 1:
        chosen = "CT" if "CT" in beside else "CTres"
        if name != chosen:
            return f"{name}.nii.gz is next to {chosen}.nii.gz, which is the scan"
    folder = path.rpartition("/")[0].rpartition("/")[2].lower()
    if folder in _OTHERS and "ct" not in name.lower():
        return f"in a folder {folder}, not CT"
    words = [word for word in re.split(r"[^a-z0-9]+", name.lower()) if word and not word.isdecimal()]
    return f"{words[-1]} by its name, not CT" if words and words[-1] in _OTHERS else ""


class _Channels:
    """nnU-Net's: ``CASE_0000`` is the first channel of a case, which ``dataset.json`` names."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self._root = root
        self._names: dict[Path, Mapping[str, str]] = {}
        cases: dict[str, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
        for path in paths:
            if self.are_of(path) and (found := _CHANNEL.fullmatch(stem(path))) and not self._has_label(path):
                cases[path.rpartition("/")[0]][found[1]].add(int(found[2]))
        self._suffixed = {
            folder
            for folder, found in cases.items()
            if all(0 in channels and max(channels) < _CHANNELS for channels in found.values())
        }

    def _folder(self, path: str) -> Path:
        return self._root / path.rpartition("/")[0]

    def are_of(self, path: str) -> bool:
        """Whether a file lies in a folder of images."""
        return NNUNET_IMAGES.match(self._folder(path).name) is not None

    def _has_label(self, path: str) -> bool:
        """Whether a label bears the whole name, so that its end is a number and no channel, as in AMOS."""
        folder = self._folder(path)
        return (folder.parent / ("labels" + folder.name[6:]) / path.rpartition("/")[2]).exists()

    def _parts(self, path: str) -> tuple[str, int]:
        found = _CHANNEL.fullmatch(stem(path)) if path.rpartition("/")[0] in self._suffixed else None
        return (found[1], int(found[2])) if found else (stem(path), 0)

    def case(self, path: str) -> str:
        """The place of the patient of a file in such a folder, "" of another."""
        if not self.are_of(path):
            return ""
        case = self._parts(path)[0]
        of_study = _AUTOPET.fullmatch(case)
        return "/".join([*path.split("/")[:-2], of_study[1] if of_study else case])  # each archive counts from 0

    def reason(self, path: str) -> str:
        """Why the channel of a file in such a folder is not used, "" where it is."""
        case, number = self._parts(path)
        if _AUTOPET.fullmatch(case):
            return "channel 1 of autoPET, which is PET" if number else ""
        folder = self._folder(path).parent
        if folder not in self._names:
            known = dataset_json(folder)
            names = known.get("channel_names", known.get("modality", {}))
            self._names[folder] = names if isinstance(names, dict) else {}
        name = str(self._names[folder].get(str(number), ""))
        if _CT.search(name):
            return ""
        if not name or name.lower() in _SCALES:  # nobody says what it is
            return f"channel {number}, which is CT in no dataset.json" if number else ""
        return f"channel {number} is not CT by dataset.json"


# --- patients -----------------------------------------------------------------------------------------------------


def _layout_patient(path: str) -> str:
    """Where the patient of a file lies, whose name comes last, where its layout says so for sure, else ""."""
    *folders, _ = path.split("/")
    name = stem(path)
    for depth, part in enumerate((*folders, name)):
        if subject := BIDS_SUBJECT.match(part):
            if part in folders and subject[0] != part:
                continue
            return "/".join([*folders[:depth], subject[0]])
    if name in PET_CT_TREE and len(folders) > 1:
        return "/".join(folders[:-1])
    if folders and re.fullmatch(_SUBJECTS.get(name, ""), folders[-1]):
        return "/".join(folders)
    return ""


def _apart(place: str) -> str:
    """The place of a patient without those folders that hold the same patients in another form, or session."""
    *above, name = place.split("/")
    kept = (part for part in above if not (_SESSION.fullmatch(part) or (_words(part) and _words(part) <= _FORMS)))
    return "/".join([*kept, name])


def _descend(files: Sequence[tuple[str, list[str]]], above: str, note: str, found: dict[str, tuple[str, str]]) -> None:
    """Find where the patient of each file lies, with what is left of its path below ``above``, and what is not sure.

    That is the first folder of its path that does not hold several patients, or the file itself.
    """
    folders: dict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for path, parts in files:
        if len(parts) == 1:
            found[path] = above + parts[0], _GUESSED if len(files) > 1 else note
        else:
            folders[parts[0]].append((path, parts[1:]))
    named = {name for name in folders if _is_shared_by_name(name)}
    unknown = {name: one for name, one in folders.items() if name not in named and not _PATIENT.fullmatch(name)}
    shared = named | _shared_by_contents(unknown)
    for name, inside in folders.items():
        if name in shared:
            _descend(inside, f"{above}{name}/", note if name in named else _GUESSED, found)
        else:
            found.update((path, (above + name, note)) for path, _ in inside)


def _words(name: str) -> set[str]:
    """Words and numbers in a folder's name; all of it where it has other letters than a to z, as names of people do."""
    found = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name) if name.isascii() else [name]
    return {word.lower() for word in found}


def _is_shared_by_name(name: str) -> bool:
    if re.match(r"(task|dataset)\d+_", name, re.IGNORECASE):  # of the Decathlon, and of nnU-Net
        return True
    words = {word for word in _words(name) if not word.isdecimal()}
    if not words <= _SHARED:
        return name.lower() in _SHARED
    return bool(words) and (not re.search(r"\d", name) or bool(words & _PARTS))


def _shared_by_contents(folders: Mapping[str, Sequence[tuple[str, list[str]]]]) -> set[str]:
    """Which of some folders hold several patients, by what lies in them."""
    if len(folders) == 1:
        return {name for name, inside in folders.items() if len(inside) > 1}
    direct = {folder: sum(len(parts) == 1 for _, parts in inside) for folder, inside in folders.items()}
    single = len(folders) > 2 and median(direct.values()) < _SOME  # as folders of patients hold
    names = Counter(name for inside in folders.values() for name in {parts[0] for _, parts in inside})
    shared = set()
    for folder, inside in folders.items():
        own = {parts[0] for _, parts in inside if len(parts) == 1}
        own = {name for name in own if names[name] == 1 and not name.startswith(folder)}
        if len(own) >= (_MANY if single else _SOME):
            shared.add(folder)
    deep = {folder: len({parts[0] for _, parts in inside if len(parts) > 1}) for folder, inside in folders.items()}
    if sum(deep.values()) > len(folders) * max(_SOME, len(folders)):  # few folders, with many in each of them
        shared |= {folder for folder, count in deep.items() if count > 1}
    return shared
