"""Small arms and jobs for methods to train on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ctkit.compute import start_child
from ctkit.contracts import Pretraining, Rows
from ctkit_torch.trunks import Trunk


@pytest.fixture
def make_rows(tmp_path: Path) -> Callable[..., Rows]:
    """Write slices into a store of two shards, and make an arm of them in a mixed order."""

    def make(slices: int = 24, size: int = 32, pixels: NDArray[np.uint8] | None = None) -> Rows:
        rng = np.random.default_rng(7)
        if pixels is None:
            pixels = rng.integers(0, 256, (slices, size, size), dtype=np.uint8)
        folder = tmp_path / f"store-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        half = len(pixels) // 2
        shards = (folder / "0.npy", folder / "1.npy")
        for shard, part in zip(shards, (pixels[:half], pixels[half:]), strict=True):
            np.save(shard, part)
        number = rng.permutation(len(pixels))
        in_second = number >= half
        scaled = pixels / 255
        return Rows(
            shards=shards,
            shard=in_second.astype(np.int64),
            row=(number - half * in_second).astype(np.int64),
            volume=in_second.astype(np.int64),
            size=pixels.shape[1],
            mean=float(scaled.mean()),
            std=float(scaled.std()),
        )

    return make


@dataclass
class Watcher:
    """Remembers what a job reports; raises ``stop`` when ``stop_at`` steps are done."""

    stop_at: int | None = None
    stop: BaseException = field(default_factory=lambda: RuntimeError("killed"))
    steps: list[tuple[int, int]] = field(default_factory=list)
    metrics: list[tuple[int, str, float]] = field(default_factory=list)

    def progress(self, step: int, total: int) -> None:
        self.steps.append((step, total))
        if step == self.stop_at:
            raise self.stop

    def metric(self, name: str, value: float, step: int) -> None:
        self.metrics.append((step, name, value))


@pytest.fixture
def make_watcher() -> Callable[..., Watcher]:
    return Watcher


@pytest.fixture
def make_job(tmp_path: Path) -> Callable[..., Pretraining]:
    """A job on the CPU in a folder called ``name``."""

    def make(rows: Rows, name: str = "job", watcher: Watcher | None = None, seed: int = 42) -> Pretraining:
        watcher = watcher or Watcher()
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return Pretraining(
            rows=rows,
            seed=seed,
            device="cpu",
            workers=1,
            folder=folder,
            metadata={"arm": "hash6", "fingerprint": "0123"},
            progress=watcher.progress,
            metric=watcher.metric,
            start_child=start_child,
        )

    return make


@pytest.fixture
def textures() -> NDArray[np.uint8]:
    """Eight slices (8, 32, 32) that anybody can tell apart: coarse patterns."""
    coarse = np.random.default_rng(3).integers(0, 256, (8, 4, 4), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def small_trunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine train two convolutions that pass for a ResNet-18; nobody can load their backbones."""

    def build(architecture: str, channels: int) -> Trunk:
        layers = (
            *(nn.Conv2d(channels, 16, 5, stride=2), nn.BatchNorm2d(16), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        )
        return Trunk(nn.Sequential(*layers), architecture, 128)

    monkeypatch.setattr("ctkit_models.engine.build_trunk", build)


@pytest.fixture
def easy() -> dict[str, Any]:
    """Settings under which two views of a texture stay alike, for a training of seconds."""
    unchanged = dict.fromkeys(("flip_horizontal", "flip_vertical", "rotation_p", "blur_p", "noise_p"), 0.0)
    training = {"backbone": "resnet18", "size": 32, "steps": 40, "batch": 8, "optimiser": "adam"}
    return {**unchanged, **training, "learning_rate": 3e-3, "scale": (0.7, 1.0)}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors are faster in one thread, and tests that run side by side do not fight for cores."""
    torch.set_num_threads(1)
