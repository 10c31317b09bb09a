"""What the tests of tasks and protocols share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-18 with random weights, as a file."""
    from ctkit_torch.backbones import random_backbone, save_backbone

    path = tmp_path_factory.mktemp("backbone") / "backbone.safetensors"
    save_backbone(path, random_backbone("resnet18", 0).trunk, mean=0.5, std=0.25, metadata={})
    return path
