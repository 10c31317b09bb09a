"""Which slices of a CT show an organ or a lesion, by the label maps that lie with it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ctkit.contracts import Volume
from ctkit.errors import DataError
from ctkit_datasets.metaimage_files import data_file, volume_header
from ctkit_datasets.nifti_files import is_label, label_values, slice_places, stored_voxels
from ctkit_datasets.nifti_layouts import BIDS_SUBJECT, NNUNET_IMAGES, PET_CT_TREE, SUFFIX, dataset_json, stem

_KITS = {1: ("kidney",), 2: ("tumour",), 3: ("cyst",)}
_WORDS = re.compile(  # that tell a scan from its label map; what is left of two names is equal
    r"(?<![a-z])(ct|img|image|imaging|volume|vol|scan|orig|seg|segmentation|mask|msk|label|labels|gt|roi)(?![a-z])"
)
_MASK = re.compile(r"(?<![a-z])(seg|segmentation|mask|msk|labels?|gt|roi)(?![a-z])")
_SESSION = re.compile(r"ses-[a-z0-9]+", re.IGNORECASE)
_SAME = 1e-3  # mm
Names = Mapping[int, tuple[str, ...]]


def mask_findings(root: Path, volume: Volume) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the slices on which each label lies; {} where there is no label map."""
    found: dict[str, set[int]] = defaultdict(set)
    scan = root / volume.files[0].path
    for path, names in _masks(root, scan):
        for name, numbers in _labelled(path, names, _title(path, scan), volume.details).items():
            found[name] |= numbers
    return {name: tuple(sorted(numbers)) for name, numbers in sorted(found.items())}


#: Words of a mask's name that are shown; any other may be somebody's name.
_SHOWN = """
    abdomen adrenal airway airways and aorta appendage arota artery atrial atrium autochthon bladder body bone bones
    bowel brachiocephalic brain bronchus cancer cardiac carotid cartilage cartilages cava cavity chiasm clavicle
    clavicula colon common consolidation cord core costal covid cyst duodenum edema effusion enhancing esophagus
    face fat femur gallbladder gland glass gluteus ground haemorrhage head heart hematoma hemorrhage hip humerus
    iliac iliopsoas infection inferior intestine kidney kidneys left lesion lesions liver lobe lower lung lungs
    lymph mandible mass maximus mediastinum medius metastases metastasis middle minimus muscle myocardium necrosis
    necrotic nerve node nodes nodule nodules oesophagus of opacity optic organ organs pancreas parotid pelvis
    pericardium pleural portal postcava primaries primary prostate pulmonary rectum rib ribs right sacrum scapula
    skin skull small spinal spine spleen splenic sternum stomach subclavian superior thorax thyroid tissue trachea
    trunk tumor tumors tumour tumours upper urinary uterus vein vena venous ventricle vertebra vertebrae vessel
    vessels whole
"""
_ANATOMY = frozenset(re.findall("[a-z]+", _SHOWN))
_LEVEL = re.compile(r"[ctls]?\d{1,2}")  # of a vertebra, or the number of a rib


def _title(path: Path, scan: Path) -> str:
    """What a file's name says of anatomy, "label" where it says nothing."""
    known = _key(scan)
    words = [word for word in _key(path) if word not in known and (word in _ANATOMY or _LEVEL.fullmatch(word))]
    return " ".join(words) if _ANATOMY & set(words) else "label"


def _labelled(path: Path, names: Names, title: str, scan: Mapping[str, Any]) -> dict[str, set[int]]:
    """Return the slices of the scan on which each label of a file lies; {} where it is no label map that fits."""
    try:
        facts = volume_header(path, path.stat().st_size, labels=True)
        path = data_file(path, facts)
        values = label_values(path, facts)
        own = _slices_at(facts, scan) if values.size else None
        if own is None:
            return {}
        stored, _ = stored_voxels(path, facts)
    except (DataError, OSError):
        return {}
    slices = stored.transpose(facts["axes"])[:: -1 if facts["flips"][0] else 1]
    labels = [int(value) for value in values if value > 0]
    usual = {label: (f"{title} {label}" if len(labels) > 1 else title,) for label in labels or [1]}
    found: dict[str, set[int]] = {name: set() for titles in (names or usual).values() for name in titles}
    for label in labels:
        shown = set(np.flatnonzero(is_label(slices, facts["scale"], label).any(axis=(1, 2))).tolist())
        numbers = {number for number, there in enumerate(own) if not shown.isdisjoint(there)}
        for name in names.get(label, usual[label]):
            found.setdefault(name, set()).update(numbers)
    return found


def _slices_at(mask: Mapping[str, Any], scan: Mapping[str, Any]) -> list[list[int]] | None:
    """Return for each slice of the scan those of the mask that lie there, None where their slices are not parallel."""
    count, many = scan["shape"][0], mask["shape"][0]
    here, there = np.array(scan["place"]), np.array(mask["place"])
    if mask["shape"] == scan["shape"] and np.allclose(here, there, atol=_SAME):
        return [[number] for number in range(count)]
    first, second = (np.cross(place[:, 0], place[:, 1]) for place in (here, there))
    normal = first / np.linalg.norm(first)
    if abs(normal @ second) < (1 - _SAME) * np.linalg.norm(second):
        return None
    middles = slice_places(scan, np.arange(count)) @ [scan["shape"][2] / 2, scan["shape"][1] / 2, 1]
    heights, own = middles @ normal, (there[:, 3] + np.outer(np.arange(many), there[:, 2])) @ normal
    step = np.abs(there[:, 2] @ normal)
    apart = np.abs(heights[:, None] - own)
    nearest = (apart.argmin(axis=0)[None, :] == np.arange(count)[:, None]) & (apart <= np.abs(here[:, 2] @ normal) / 2)
    reached = (apart.argmin(axis=1)[:, None] == np.arange(many)[None, :]) & (apart <= step / 2)
    return [np.flatnonzero(row).tolist() for row in nearest | reached]


# --- which they are -----------------------------------------------------------------------------------------------


def _masks(root: Path, scan: Path) -> Iterator[tuple[Path, Names]]:
    """Yield the files that may be label maps of a scan, with the names of their labels as far as they are known."""
    folder, name = scan.parent, stem(scan.name)
    for path in _files(folder / "segmentations"):
        yield path, {}
    if name == "imaging":
        yield from ((path, _KITS) for path in _files(folder) if stem(path.name) == "segmentation")
    elif name in PET_CT_TREE:
        yield from ((path, {1: ("lesion",)}) for path in _files(folder) if stem(path.name) == "SEG")
    elif NNUNET_IMAGES.match(folder.name):
        names = _label_names(folder.parent)
        cases = {name, re.sub(r"_\d{4}$", "", name)}
        paths = [path for path in _files(folder.parent / ("labels" + folder.name[6:])) if stem(path.name) in cases]
        yield from ((path, names) for path in sorted(paths, key=lambda path: -len(path.name))[:1])
    elif subject := BIDS_SUBJECT.match(name) or BIDS_SUBJECT.match(folder.name):
        yield from ((path, {}) for path in _derivatives(root, scan, subject[0]))
    else:
        yield from ((path, {}) for path in _alike(root, scan))


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _files(folder: Path) -> list[Path]:
    return [path for path in _listed(folder) if SUFFIX.search(path.name)]


def _label_names(folder: Path) -> dict[int, tuple[str, ...]]:
    """Return the names of labels by ``dataset.json``: by number, or the number, or several of them, by name.

    A name with any word that is not known as anatomy may be somebody's: such labels are called by their number.
    """
    labels = dataset_json(folder).get("labels", {})
    names: dict[int, tuple[str, ...]] = {}
    for one, other in labels.items() if isinstance(labels, dict) else ():
        by_number = re.fullmatch(r"\d{1,9}", one) is not None
        numbers = [int(one)] if by_number else other if isinstance(other, list) else [other]
        for number in numbers:
            if isinstance(number, int) and number:
                words = re.findall(r"[^\W_]+", (name := str(other if by_number else one)).lower())
                known = all(word in _ANATOMY or _LEVEL.fullmatch(word) for word in words)
                shown = name if known and _ANATOMY & set(words) else f"label {number}"
                names[number] = (*names.get(number, ()), shown)
    return names


def _derivatives(root: Path, scan: Path, subject: str) -> Iterator[Path]:
    """Yield what BIDS derivatives hold of a subject, and of the scan's session where it has one."""
    session = _SESSION.search(str(scan.relative_to(root)))
    above = [folder for folder in scan.parents if folder.is_relative_to(root)]
    places = [folder.glob(f"derivatives/{'*/' * deep}{subject}") for folder in above for deep in range(3)]
    for path in sorted({path for place in places for found in place for path in found.rglob(f"{subject}*")}):
        if SUFFIX.search(path.name) and (
            session is None or session[0] in _SESSION.findall(str(path.relative_to(root)))
        ):
            yield path


def _alike(root: Path, scan: Path) -> Iterator[Path]:
    """Yield the files beside a scan, or in a folder beside its own, that are named as it is but for words as "mask"."""
    key, folder = _key(scan), scan.parent
    beside = [path for path in _files(folder) if path != scan and _key(path)[: len(key)] == key]
    scans = {tuple(_key(path)) for path in beside if not _MASK.search(stem(path.name).lower())}
    others = {name for name in scans if key and "".join(name[len(key) :]).isdecimal()}  # as p_1_2 is beside p_1

    def is_named_alike(path: Path) -> bool:
        name = tuple(_key(path))
        return list(name[: len(key)]) == key and not any(name[: len(other)] == other for other in others)

    yield from filter(is_named_alike, beside)
    if folder != root and _is_word(folder.name):
        for other in _listed(folder.parent):
            if other != folder and _is_word(other.name) and other.is_dir():
                yield from filter(is_named_alike, _files(other))


def _is_word(folder: str) -> bool:
    return _WORDS.search(folder.lower().removesuffix("s")) is not None


def _key(path: Path) -> list[str]:
    return [word for word in re.split(r"[\W_]+", _WORDS.sub("", stem(path.name).lower())) if word]
