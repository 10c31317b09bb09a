"""Synthetic run folders: made-up numbers in files as a run leaves them, and names planted that must not show."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ctkit.files import write_csv, write_json
from ctkit.storage.records import ComparisonRow, ScoreRow
from ctkit_reports.page import write_report

SEEDS = (42, 43, 44)
SECRETS = ("MUELLER", "LIDC-IDRI-0078", "20010203", "/data/clinic", "clinic", "jdoe", "1.3.6.1.4.1.14519")
ORGANS = (
    "bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left", "lung-right",
    "pancreas", "spleen",
)  # fmt: skip
#: share kept and the pull towards the right answer, by arm
RANDOM = "random-like-hash6"
ARMS = {"all": (1.0, 1.1), "every-n-10": (0.1, 1.0), "hash6": (0.175, 1.5), "random-like-hash6": (0.175, 1.05)}
VOLUMES = {"3fa91c0e": 133, "b81d22f4": 61, "0c77ae91": 241, "9e10d5b2": 88, "77ab03cd": 120}


@dataclass
class Study:
    """Writes one run folder; every number is drawn from one generator, so the same study is the same files."""

    folder: Path
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = SEEDS
    tasks: tuple[tuple[str, str, tuple[str, ...], int], ...] = (
        ("covid-ct", "linear", ("non-covid", "covid"), 203),
        ("organs", "knn", ORGANS, 600),
    )
    volumes: dict[str, int] | None = None
    images: bool = True
    side: int = 96
    steps: int = 4000

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.volumes = self.volumes or VOLUMES

    def write(self, **facts: Any) -> Path:
        """Write everything; ``facts`` replace entries of ``run.json``."""
        self.scan()
        for arm in self.arms:
            self.select(arm)
            for seed in self.seeds if self.tasks else ():
                self.train(arm, seed)
        if self.tasks:
            self.score()
        self.provenance(**facts)
        return self.folder

    @property
    def total(self) -> int:
        return sum((self.volumes or {}).values())

    def scan(self) -> None:
        columns = [
            *("volume", "patient", "slices", "rows", "columns", "spacing_x", "spacing_y", "spacing_z"),
            *("kernel", "thickness", "notes"),
        ]
        rows = [
            (
                name,
                f"p{name[:4]}",
                n,
                512,
                512,
                0.7,
                0.7,
                (1.25, 2.5, 3.0)[i % 3],
                "B30f",
                "",
                "gap; tilt of 12 degrees" if i == 1 else "",
            )
            for i, (name, n) in enumerate((self.volumes or {}).items())
        ]
        write_csv(self.folder / "volumes.csv", columns, rows)
        reasons = ["not a CT image", "not a CT image", "truncated", "cannot read /data/clinic/jdoe/7.dcm: no pixels"]
        sources = [f"LIDC-IDRI-0078/MUELLER_20010203/{i}.dcm" for i in range(len(reasons))]
        write_csv(self.folder / "skipped.csv", ("source", "reason"), zip(sources, reasons, strict=True))

    def select(self, arm: str) -> None:
        share, _ = ARMS[arm]
        draws = SEEDS if arm.startswith("random") else ()
        folder = self.folder / "arms" / arm
        for target in [folder / f"draw-{seed}" for seed in draws] or [folder]:
            rows = list(self._selection(share, with_distance=arm == "hash6"))
            columns = ["slice", "volume", "source", "index", "kept", "represented_by", "distance"]
            write_csv(target / "selection.csv", columns, rows)
        steps = {
            "all": ("all", None, None, None, "volume"),
            "every-n-10": ("every-n", "n", "slices", 10.0, "volume"),
            "hash6": ("hash", "threshold", "bits", 6.0, "volume"),
            "random-like-hash6": ("random", "share", None, 0.175, "dataset"),
        }
        use, knob, unit, at, scope = steps[arm]
        facts = {
            "arm": arm,
            "steps": [{"use": use, "parameters": {}, "knob": knob, "unit": unit, "at": at, "scope": scope}],
            "asked": {"like": "hash6"} if draws else None,
            "seeds": list(draws),
            "slices": self.total,
            "kept": sum(row[4] for row in rows),
            "seconds_select": 0.031,
        }
        write_json(folder / "arm.json", facts)
        self._pictures(folder, many=share < 1)

    def _selection(self, share: float, with_distance: bool) -> Iterable[tuple[Any, ...]]:
        number, last = 0, 0
        for volume, n in (self.volumes or {}).items():
            kept = self.rng.random(n) < share
            kept[0] = True
            for index in range(n):
                source = f"LIDC-IDRI-0078/MUELLER_20010203/1.3.6.1.4.1.14519.{volume}/{index}.dcm"
                last = number if kept[index] else last
                dropped = with_distance and not kept[index]
                distance = int(self.rng.binomial(6, 0.55)) if dropped else None
                yield number, volume, source, index, bool(kept[index]), last if dropped else None, distance
                number += 1

    def _pictures(self, folder: Path, many: bool) -> None:
        n = 16 if many else 0
        np.savez(
            folder / "pictures.npz",
            kept=np.stack([self.slice_() for _ in range(n)]) if n else np.empty((0, 8, 8), np.uint8),
            dropped=np.stack([self.slice_() for _ in range(n)]) if n else np.empty((0, 8, 8), np.uint8),
            stand_in=np.stack([self.slice_() for _ in range(n)]) if n else np.empty((0, 8, 8), np.uint8),
            distance=np.sort(self.rng.integers(0, 7, n)).astype(np.float32),
        )

    def slice_(self) -> NDArray[np.uint8]:
        """A body with two lungs and a spine, (side, side)."""
        y, x = np.mgrid[-1 : 1 : self.side * 1j, -1 : 1 : self.side * 1j]
        wide, high = self.rng.uniform(0.7, 0.9), self.rng.uniform(0.5, 0.65)
        image = np.where((x / wide) ** 2 + (y / high) ** 2 < 1, 150.0, 5.0)
        lung = self.rng.uniform(0.15, 0.3)
        for side in (-1, 1):
            image[((x - side * 0.38) / lung) ** 2 + (y / (1.5 * lung)) ** 2 < 1] = 40
        image[(x / 0.1) ** 2 + ((y - 0.35) / 0.1) ** 2 < 1] = 240
        return np.clip(image + self.rng.normal(0, 8, image.shape), 0, 255).astype(np.uint8)

    def train(self, arm: str, seed: int) -> None:
        share, pull = ARMS[arm]
        folder = self.folder / "arms" / arm / "simclr" / f"seed-{seed}"
        steps = max(int(self.steps * share), 10)
        at = np.unique(np.linspace(1, steps, 400).astype(int))
        curves = {
            "loss": 4.2 * np.exp(-at / (0.4 * steps)) + 2.3 / pull + self.rng.normal(0, 0.05, len(at)),
            "alike-pairs": 0.02 * share**0.5 * (1 + self.rng.normal(0, 0.2, len(at))),
            "learning-rate": 0.15 * (1 + np.cos(np.pi * at / steps)),
        }
        few = at[:: max(1, len(at) // 20)]
        spread = {"feature-std": 0.008 + 0.01 * few / steps, "effective-rank": 40 + 80 * pull * few / steps}
        rows = [(int(s), name, float(v)) for name, curve in spread.items() for s, v in zip(few, curve, strict=True)]
        rows += [(int(s), name, float(v)) for name, curve in curves.items() for s, v in zip(at, curve, strict=True)]
        write_csv(folder / "history.csv", ("step", "name", "value"), rows)
        facts = {
            "method": "simclr", "parameters": {}, "slices": int(self.total * share), "batch": 128, "steps": steps,
            "epochs": 800.0, "seconds": 0.33 * steps + seed, "slices_per_second": 387.5, "device": "cuda",
            "waiting": 0.021 + 0.001 * seed / 42, "joules": 640.0 * steps, "peak_bytes": 11_811_160_064,
            "collapsed": False, "mean": 0.18, "std": 0.19,
            "notes": ["batch lowered from 256 to 128"] if share < 0.15 else [],
        }  # fmt: skip
        write_json(folder / "pretrain.json", facts)
        for task, protocol, classes, n in self.tasks:
            self._predict(folder / task / protocol / "repeat-0-labels-1.0.csv", classes, n, pull)

    def _predict(self, file: Path, classes: tuple[str, ...], n: int, pull: float) -> None:
        truth = np.arange(n) * len(classes) // n
        logits = self.rng.normal(0, 1, (n, len(classes)))
        logits[np.arange(n), truth] += pull * len(classes) ** 0.3
        probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        rows = [
            (f"MUELLER_{i}.png", f"p{i}", classes[truth[i]], *(f"{value:.5f}" for value in probability[i]))
            for i in range(n)
        ]
        write_csv(file, ("name", "patient", "label", *classes), rows)

    def score(self) -> None:
        results, comparisons = [], []
        for task, protocol, _, n in self.tasks:
            width = 0.9 / n**0.5
            for metric, level in (("auc", 0.78), ("accuracy", 0.70), ("f1", 0.68)):
                for arm in self.arms:
                    value = level + 0.1 * (ARMS[arm][1] - 1.1)
                    key = (arm, "simclr", task, protocol, 1.0)
                    for seed in self.seeds:
                        own = value + self.rng.normal(0, width / 4)
                        results.append((*key, seed, "all", metric, own, own - width, own + width, "", ""))
                    ends = value - width / 1.7, value + width / 1.7
                    results.append((*key, "all", "all", metric, value, *ends, "", ""))
                    if arm != "all":
                        comparisons.append(self._comparison(key, metric, 0.1 * (ARMS[arm][1] - 1.1), width))
                if {"hash6", RANDOM} <= set(self.arms):
                    found = self._comparison(
                        ("hash6", *key[1:]), metric, 0.1 * (ARMS["hash6"][1] - ARMS[RANDOM][1]), width
                    )
                    comparisons.append((found[0], RANDOM, *found[2:-2], "same size", found[-1]))
        write_csv(
            self.folder / "results.csv",
            ScoreRow._fields,
            results,
        )
        write_csv(self.folder / "comparisons.csv", ComparisonRow._fields, comparisons)

    @staticmethod
    def _comparison(key: tuple[Any, ...], metric: str, difference: float, width: float) -> tuple[Any, ...]:
        p = float(np.exp(-abs(difference) / width * 6))
        low, high = difference - width / 2, difference + width / 2
        family = "primary" if metric == "auc" else "secondary"
        numbers = difference, low, high, p, min(1.0, 2 * p)
        return (key[0], "all", *key[1:], metric, *numbers, "paired bootstrap", "reference", family)

    def provenance(self, **facts: Any) -> None:
        pipeline = {
            "run": {"name": "lidc-hash-vs-all", "seed": 42, "seeds": len(self.seeds), "out": "/data/clinic/out"},
            "compute": {"device": "auto", "workers": 8, "backend": "dask", "scheduler": "tcp://clinic:8786"},
            "dataset": {
                "use": "lidc-idri",
                "root": "/data/clinic/jdoe",
                "intensity": "hu-window",
                "only": ["LIDC-IDRI-0078"],
            },
            "report": {"images": self.images},
            "reduce": [{"id": arm, "use": "hash", "threshold": 6, "keep": None} for arm in self.arms],
        } | ({"pretrain": [{"id": "simclr", "use": "simclr", "epochs": 800}]} if self.tasks else {})
        stages = [("scan", 3.1), ("describe", 41.2), ("select", 0.4), ("materialise", 12.0), ("pretrain", 1320.0)]
        record = {
            "ctkit": "0.1.0", "python": "3.11.9", "platform": "Linux-6.1-x86_64", "name": "lidc-hash-vs-all",
            "command": ["ctkit", "run", "/x/MUELLER.toml", "--set", "dataset.root=/data/clinic", "--until", "report"],
            "started": "2031-05-06T07:08:09+00:00", "finished": "2031-05-06T09:00:00+00:00",
            "state": "done", "error": None,
            "pipeline": pipeline, "seeds": list(self.seeds), "device": "cuda (NVIDIA H100)", "fingerprint": "ab" * 32,
            "plugins": [
                {
                    "kind": "reducer", "name": "hash", "distribution": "ctkit-ssl", "version": "0.1.0",
                    "results_version": 1,
                }
            ],
            "stages": [{"stage": s, "item": "", "seconds": t, "cached": s == "scan"} for s, t in stages],
            "failures": [],
            "notes": [
                {"item": "", "text": "the folder /data/clinic/jdoe was read over the network"},
                {"item": "covid-ct", "text": "12 of 40 training labels were used"},
            ],
        }  # fmt: skip
        write_json(self.folder / "run.json", record | facts)


@pytest.fixture
def study(tmp_path: Path) -> Callable[..., Study]:
    """Make a study in a fresh folder; keyword arguments are the fields of ``Study``."""
    return lambda **fields: Study(tmp_path / "runs" / "study", **fields)


@pytest.fixture(scope="session")
def full_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four arms, three seeds, a task of two classes and one of eleven. Tests only read it."""
    return Study(tmp_path_factory.mktemp("runs") / "full").write()


@pytest.fixture(scope="session")
def full_page(full_run: Path) -> Path:
    """The report of ``full_run``."""
    return write_report(full_run)


@pytest.fixture
def secrets() -> tuple[str, ...]:
    """Words that the studies' sources, reasons, paths and arguments hold, and that may be on no page."""
    return SECRETS


@pytest.fixture
def baseline_run(study: Callable[..., Study]) -> Path:
    """Two arms and a baseline on one task, two repeats of each evaluation; one arm saw a test image before."""
    made = study(arms=("all", "hash6"), seeds=(42, 43), tasks=(("lesion", "linear", ("ill", "well"), 80),))
    folder = made.write()
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["pipeline"]["baseline"] = [{"id": "untrained", "use": "untrained"}]
    write_json(folder / "run.json", record)
    for file in folder.glob("arms/*/simclr/seed-*/lesion/linear/repeat-0-labels-1.0.csv"):
        warnings = ["test: 1 of 80 images are near-duplicates of a slice"] if file.parts[-6] == "hash6" else []
        write_json(file.with_suffix(".json"), {"positive": "ill", "notes": ["C = 1 was chosen"], "warnings": warnings})
        file.rename(file.with_name("repeat-0-labels-1.csv"))
        file.with_suffix(".json").rename(file.with_name("repeat-0-labels-1.json"))
    baseline = folder / "baselines" / "untrained" / "seed-42" / "lesion" / "linear" / "repeat-0-labels-1.csv"
    made._predict(baseline, ("ill", "well"), 80, 0.2)
    _write_baseline_scores(folder)
    return folder


def _write_baseline_scores(folder: Path) -> None:
    key, rows, apart = ("simclr", "lesion", "linear", 1), [], 0.02
    for arm, of, mean in (("all", key, 0.8), ("hash6", key, 0.9), ("untrained", ("", *key[1:]), 0.7)):
        for seed, repeat in itertools.product((42, 43), (0, 1)):
            value = mean + apart * (seed - 42.5) + apart * (repeat - 0.5)
            rows.append((arm, *of, seed, repeat, "auc", value, value - 0.1, value + 0.1, "", ""))
        rows.append((arm, *of, "all", "all", "auc", mean, mean - 0.1, mean + 0.1, 0.7 * apart, 0.71 * apart))
    write_csv(folder / "results.csv", ScoreRow._fields, rows)
    differences = [
        ("hash6", "all", *key, "auc", 0.1, -0.02, 0.2, 0.06, 0.06, "DeLong", "reference", "primary"),
        ("all", "untrained", *key, "auc", 0.1, 0.01, 0.2, 0.02, 0.04, "DeLong", "baseline", "secondary"),
        ("hash6", "untrained", *key, "auc", 0.2, 0.1, 0.3, 0.001, 0.003, "DeLong", "baseline", "secondary"),
    ]
    write_csv(folder / "comparisons.csv", ComparisonRow._fields, differences)


@pytest.fixture
def selection_run(study: Callable[..., Study]) -> Path:
    """A pipeline without pre-training."""
    return study(tasks=()).write()


@pytest.fixture
def failed_run(study: Callable[..., Study]) -> Path:
    """An arm without a selection, a seed that died in training, one that is missing, nothing compared."""
    made = study(arms=("all", "hash6"), seeds=(42,), tasks=(("lesion", "knn", ("no", "yes"), 40),), steps=24)
    died = {"stage": "pretrain", "item": "hash6/simclr/seed-43", "reason": "cannot read /data/clinic/jdoe: disk gone"}
    folder = made.write(state="failed in part", failures=[died], seeds=[42, 43])
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["pipeline"]["reduce"].append({"id": "ssim", "use": "ssim"})
    write_json(folder / "run.json", record)
    (folder / "comparisons.csv").unlink()
    return folder
