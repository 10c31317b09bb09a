from __future__ import annotations

from pathlib import Path

import numpy as np

from ctkit.slices import Pictures, read_mistakes, read_pictures, write_mistakes, write_pictures


def test_pictures_and_mistakes_are_read_as_they_were_written(tmp_path: Path) -> None:
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    pictures = Pictures(images, images[:1], images[1:], np.array([2.5], np.float32))
    write_pictures(tmp_path / "p.npz", pictures)
    found = read_pictures(tmp_path / "p.npz")
    assert found is not None
    assert all(np.array_equal(value, getattr(found, name)) for name, value in vars(pictures).items())
    write_mistakes(tmp_path / "m.npz", {"a/b": (np.array([3, 7]), images)})
    ((task, (rows, shown)),) = read_mistakes(tmp_path / "m.npz").items()
    assert (task, rows.tolist()) == ("a/b", [3, 7])
    assert np.array_equal(shown, images)
    assert read_pictures(tmp_path / "no.npz") is None
    assert read_mistakes(tmp_path / "no.npz") == {}
