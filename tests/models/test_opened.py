"""A run's slices and backbones as torch gives them: ``Run.dataset`` and ``Run.backbone``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import ctkit
from ctkit import rendering
from ctkit.errors import RequestError
from ctkit_datasets.phantom import Phantom, PhantomParams
from ctkit_torch.backbones import load_backbone

PHANTOM = PhantomParams(patients=2, slices=6, matrix=32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> ctkit.Run:
    return ctkit.run(
        {
            "run": {"name": "x", "out": str(tmp_path_factory.mktemp("runs") / "x")},
            "compute": {"workers": 1, "device": "cpu"},
            "dataset": {"use": "phantom", "size": 32, "intensity": "lung"} | PHANTOM.model_dump(),
            "reduce": [{"use": "hash", "id": "hash6", "threshold": 6}],
            "pretrain": [{"use": "untrained", "backbone": "resnet18"}],
        }
    )


def test_the_slices_are_a_data_set_of_images_and_sources(run: ctkit.Run) -> None:
    before = (run.path / "run.json").read_bytes()
    slices = run.dataset("hash6")
    table = run.selection("hash6").query("kept")
    assert isinstance(slices, Dataset)
    assert len(slices) == len(table)  # type: ignore[arg-type]  # it has a length
    assert [source for _, source in slices] == table.source.tolist()  # type: ignore[attr-defined]  # and an end
    first, source = slices[0]
    assert (first.dtype, tuple(first.shape), source) == (torch.float32, (1, 32, 32), table.source.iloc[0])
    phantom = Phantom(PHANTOM)
    volume = next(iter(phantom.arrange((file, phantom.inspect(file)) for file in phantom.files())))
    pixels = phantom.read(volume)
    (expected,) = rendering.training(pixels.values[:1], pixels.unit, (-600.0, 1500.0), 32, (0.0, 1.0))
    np.testing.assert_array_equal((first[0] * 255).round().numpy(), expected)
    images, sources = next(iter(DataLoader(slices, batch_size=3)))
    assert (tuple(images.shape), len(sources)) == ((3, 1, 32, 32), 3)
    with pytest.raises(IndexError):
        slices[len(table)]
    assert (run.path / "run.json").read_bytes() == before


def test_the_backbone_takes_images_as_they_are(run: ctkit.Run) -> None:
    network = run.backbone("hash6")
    assert isinstance(network, torch.nn.Module)
    assert not network.training
    found = load_backbone(run.backbones[0].path)
    assert (network.mean, network.std, network.architecture, network.width) == (found.mean, found.std, "resnet18", 512)
    image, _ = run.dataset("hash6")[0]
    with torch.no_grad():
        normalised = ((image - found.mean) / found.std).repeat(3, 1, 1)
        torch.testing.assert_close(network(image[None]), found.trunk(normalised[None]))
    with pytest.raises(RequestError, match="has no backbone of arm 'hash'; did you mean 'hash6'"):
        run.backbone("hash")


def test_slices_that_the_store_has_lost_are_stored_again(run: ctkit.Run, tmp_path: Path) -> None:
    before = [image for image, _ in run.dataset("hash6")]
    (run.path.parent / ".cache" / "store").rename(tmp_path / "lost")
    for one, again in zip(before, run.dataset("hash6"), strict=True):
        assert torch.equal(one, again[0])
