from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from ctkit_torch.preparation import batches, normalised, resized


def images(count: int) -> list[np.ndarray]:
    """Images of changing sizes, every third one in colour."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(20, 300, (count, 2))
    return [
        rng.integers(0, 256, (*size, 3) if number % 3 == 2 else size).astype(np.uint8)
        for number, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("shape", [(150, 90), (31, 200, 3), (64, 64)])
def test_preparing_equals_the_usual_torchvision_transforms(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    usual = v2.Compose(
        [
            v2.Resize((64, 64)),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.3] * 3, [0.2] * 3),
        ]
    )
    expected = usual(Image.fromarray(image).convert("RGB"))
    found = normalised(torch.from_numpy(resized(image, 64).copy())[None], 0.3, 0.2)[0]
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("batch", [1, 4, 5, 64])
@pytest.mark.parametrize("workers", [0, 3])
def test_batches_hold_every_image_in_the_order_asked_for(batch: int, workers: int) -> None:
    pool = images(11)
    numbers = np.array([7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10])
    found = list(batches(pool.__getitem__, numbers, size=32, batch=batch, workers=workers))
    assert [len(part) for part in found[:-1]] == [batch] * (len(found) - 1)
    together = torch.cat([part.expand(-1, 3, -1, -1) for part in found])
    expected = np.stack([np.broadcast_to(resized(pool[number], 32), (3, 32, 32)) for number in numbers])
    assert np.array_equal(together.numpy(), expected)


def test_a_grey_batch_keeps_one_channel() -> None:
    (batch,) = batches(lambda number: np.full((20, 30), number, np.uint8), np.arange(3), size=16, batch=8, workers=1)
    assert batch.shape == (3, 1, 16, 16)
    assert normalised(batch, 0.5, 0.5).shape == (3, 3, 16, 16)


def test_an_image_that_cannot_be_read_stops_the_batches() -> None:
    def broken(number: int) -> np.ndarray:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(batches(broken, np.arange(3), size=16, batch=2, workers=1))
