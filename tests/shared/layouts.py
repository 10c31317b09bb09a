"""Tiny downstream sets in the layouts of real ones, quirks included. Every image tells its class by stripes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: int, seed: int, size: tuple[int, int] = (40, 48)) -> np.ndarray:
    """A grey image (height, width) of smooth noise, with stripes 2 pixels wide for class 1, 4 for class 2 and so on."""
    rng = np.random.default_rng([label, seed])
    coarse = rng.integers(0, 100, (6, 6)).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))
    stripes = 120 * (np.arange(size[1]) // 2**label % 2) if label else np.zeros(size[1])
    return (smooth + stripes).astype(np.uint8)


def save(path: Path, grey: np.ndarray, mode: str = "L", kind: str | None = None) -> None:
    """Write ``grey`` in a mode of Pillow, as ``kind`` of file whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).convert(mode).save(path, format=kind)


def image_folder(root: Path, counts: Mapping[str, int], classes: tuple[str, ...] = ("healthy", "lesion")) -> Path:
    """``root/split/class/patient-<n>_slice-<m>.png`` with two slices a patient, no patient in two splits."""
    for number, (split, count) in enumerate(counts.items()):
        for label, name in enumerate(classes):
            for i in range(count):
                patient = 1000 * number + 100 * label + i // 2
                save(root / split / name / f"patient-{patient}_slice-{i % 2}.png", picture(label, 1000 * number + i))
    return root


def covid_ct(root: Path, counts: Mapping[str, int]) -> Path:
    """The COVID CT Grand Challenge: official lists, JPEG in ``.png``, modes L, RGB and RGBA, ``%`` and blanks in names.

    One file is in the folder and in no list, and the test list of one class names a file that is not there.
    """
    looks = (("L", None, ".png"), ("RGB", "JPEG", ".png"), ("RGBA", None, ".png"), ("RGB", None, ".jpg"))
    for label, name in enumerate(("NonCOVID", "COVID")):
        for number, (split, count) in enumerate(counts.items()):
            listed = []
            for i in range(count):
                mode, kind, suffix = looks[i % len(looks)]
                listed.append(f"2020.02.{number:02d} {name}%{i}-p{i}_1{suffix}")
                size = (30 + 7 * i, 115 if i % 2 else 60)
                save(
                    root / "Images-processed" / f"CT_{name}" / listed[-1],
                    picture(label, 100 * number + i, size),
                    mode,
                    kind,
                )
            missing = ["not-there.png"] if (name, split) == ("COVID", "test") else []
            table = root / "Data-split" / name / f"{split}CT_{name}.txt"
            table.parent.mkdir(parents=True, exist_ok=True)
            table.write_text("\n".join([*listed, *missing]) + "\n\n", encoding="utf-8")
        save(root / "Images-processed" / f"CT_{name}" / "in-no-list.png", picture(label, 999))
    return root


def medmnist(path: Path, classes: int, counts: Mapping[str, int], size: int = 28, *, colour: bool = False) -> Path:
    """A set as MedMNIST stores it: ``train_images``, ``train_labels`` (n, 1) and so on, 8 bits."""
    arrays = {}
    for number, (split, count) in enumerate(counts.items()):
        labels = np.arange(count) % classes
        images = np.stack([picture(int(label) % 3, 100 * number + i, (size, size)) for i, label in enumerate(labels)])
        arrays[f"{split}_images"] = np.repeat(images[..., None], 3, axis=-1) if colour else images
        arrays[f"{split}_labels"] = labels[:, None].astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def hemorrhage_paper(root: Path, counts: Mapping[str, int]) -> Path:
    """The paper's private set: ``train`` and ``test``, each with ``a_without`` and ``b_with``."""
    return image_folder(root, counts, ("a_without", "b_with"))


def hemorrhage_kaggle(root: Path, count: int) -> Path:
    """Kaggle's "Head CT - hemorrhage": the header has a space, ids are not padded, a few files are RGBA."""
    rows = ["id, hemorrhage"]
    for number in range(count):
        label = int(number < count // 2)
        save(root / "head_ct" / f"{number:03d}.png", picture(label, number), "RGBA" if number % 5 == 0 else "RGB")
        rows.append(f"{number},{label}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    return root


def decathlon(root: Path, cases: int = 10, tests: int = 2) -> dict[str, np.ndarray]:
    """A set of the Decathlon: organ 1, in every second case tumour 2; axes that run either way; what macOS leaves.

    Returns the true masks (slices, rows, columns) by the names of the cases with masks.
    """
    import nibabel

    truth: dict[str, np.ndarray] = {}
    names = [f"liver_{number}" for number in range(cases)]
    for number, name in enumerate((*names, *(f"liver_{cases + number}" for number in range(tests)))):
        rng = np.random.default_rng(number)
        mask = np.zeros((5 + number % 3, 20, 24), np.uint8)
        mask[1:-1, 4:12, 3:15] = 1
        if number % 2:
            mask[2, 5:8, 6 : 9 + number % 3] = 2
        hu = np.full(mask.shape, -1000.0)
        hu[:, 2:18, 2:22] = 0
        hu += np.array([0, 90, 40])[mask] + rng.normal(0, 10, mask.shape)
        step = -1 if number % 2 else 1  # voxels run to the patient's left and back, or right and front
        part = "Tr" if name in names else "Ts"
        for kind, values in (("images", hu.astype(np.int16)), ("labels", mask)):
            if kind + part != "labelsTs":
                stored = values[:, ::step, ::step].transpose(2, 1, 0)
                affine = np.diag([-0.8 * step, -0.9 * step, 5.0, 1.0])
                path = root / f"{kind}{part}" / f"{name}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(stored, affine), path)
                path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        ")
        if name in names:
            truth[name] = mask
    (root / "dataset.json").write_text(
        json.dumps({
            "name": "Liver",
            "modality": {"0": "CT"},
            "labels": {"0": "background", "1": "liver", "2": "cancer"},
            "numTraining": cases,
            "numTest": tests,
            "training": [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in names],
            "test": [f"./imagesTs/liver_{cases + number}.nii.gz" for number in range(tests)],
        })
    )  # fmt: skip
    (root / "._dataset.json").write_bytes(b"\0\5\x16\7")
    return truth
