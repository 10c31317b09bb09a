"""What a data set can hand on of its sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctkit.contracts import SliceFormat, refuse_without_sources
from ctkit.errors import RequestError
from ctkit_datasets.dicom import Dicom, SeriesParams
from ctkit_datasets.images import Images, ImagesParams
from ctkit_datasets.phantom import Phantom


@pytest.mark.parametrize("form", ["list", "dicom"])
def test_synthetic_data_has_no_source_files_to_hand_on(form: SliceFormat) -> None:
    with pytest.raises(RequestError, match=f"data set phantom has no source files to export as {form}; take png or"):
        refuse_without_sources(Phantom(), "phantom", form)


def test_images_are_not_handed_on_as_dicom(tmp_path: Path) -> None:
    images = Images(ImagesParams(root=tmp_path))
    refuse_without_sources(images, "images", "list")
    with pytest.raises(RequestError, match="the source files of data set images are not DICOM; take list, png"):
        refuse_without_sources(images, "images", "dicom")


def test_what_has_sources_of_the_format_is_not_refused(tmp_path: Path) -> None:
    refuse_without_sources(Dicom(SeriesParams(root=tmp_path)), "dicom", "dicom")
    refuse_without_sources(Phantom(), "phantom", "png")
