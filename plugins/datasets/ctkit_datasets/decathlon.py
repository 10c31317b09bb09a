"""The CT sets of the Medical Segmentation Decathlon (Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9).

``Task06_Lung`` and its like hold ``dataset.json``, ``imagesTr``, ``labelsTr`` and, without masks, ``imagesTs``. A case
is a patient.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ctkit.contracts import Skipped, SourceFile, Volume
from ctkit_datasets.nifti import Nifti, NiftiParams
from ctkit_datasets.nifti_layouts import dataset_json, stem

SHARES = {"test": 0.2, "val": 0.1}  #: of the cases with masks


class DecathlonParams(NiftiParams):
    """Which cases to use; the other parameters are those of data set ``nifti``."""

    cases: Literal["not-test", "all"] = Field(
        "not-test",
        description="not-test: without the cases that task decathlon tests by, so that no backbone has seen them. all:"
        " these too",
        json_schema_extra={"address": False},
    )


class Decathlon(Nifti):
    """The scans of a set as data set ``nifti`` reads them; organs and tumours of its masks are the findings."""

    params_type = DecathlonParams

    def check(self, device: str | None) -> Iterable[str]:
        """Say what is missing of the layout."""
        return faults(self.params.root)

    def inspect(self, file: SourceFile) -> Mapping[str, Any] | Skipped:
        """Read one header; what macOS left in the archives is none."""
        if file.path.rpartition("/")[2].startswith("._"):
            return Skipped(file.path, "a file of macOS beside a scan")
        return super().inspect(file)

    def volumes(self, headers: Iterable[tuple[SourceFile, Mapping[str, Any]]]) -> Iterator[Volume | Skipped]:
        """Yield a volume per case that is asked for, and the others with the reason."""
        kept_back = set(parts_of(labelled(self.params.root))["test"]) if self._params.cases == "not-test" else set()
        for one in super().volumes(headers):
            if isinstance(one, Volume) and one.files[0].path in kept_back:
                yield Skipped(one.files[0].path, 'a test case of task decathlon (cases = "all" uses it)')
            else:
                yield one

    @property
    def _params(self) -> DecathlonParams:
        assert isinstance(self.params, DecathlonParams)
        return self.params


def faults(root: Path) -> Iterator[str]:
    """Say what is missing of the layout of a CT set."""
    known = dataset_json(root)
    modality = known.get("modality")
    if not known:
        yield f"expects dataset.json in {root}; give the folder of one set, such as Task06_Lung"
    elif not isinstance(modality, dict) or str(modality.get("0")).upper() != "CT":
        sets = "Liver, Lung, Pancreas, HepaticVessel, Spleen, Colon"
        yield f"{root} is not a CT set by its dataset.json; those are {sets}"
    elif not labelled(root):
        yield f"expects scans in {root / 'imagesTr'} with masks of the same names in labelsTr, but there are none"


def labelled(root: Path) -> list[str]:
    """Paths below the root of the scans that have masks, sorted."""
    names = (path.name for path in (root / "imagesTr").glob("*.nii*") if not path.name.startswith("."))
    return sorted(f"imagesTr/{name}" for name in names if (root / "labelsTr" / name).is_file())


def parts_of(cases: Sequence[str]) -> dict[str, list[str]]:
    """Parts of the cases: train, val and test. They are drawn by the digests of the names: data set and task agree."""
    drawn = sorted(cases, key=lambda case: hashlib.sha256(stem(case).encode()).digest())
    counts = {part: max(1, round(share * len(cases))) for part, share in SHARES.items()}
    test, val = counts["test"], counts["test"] + counts["val"]
    return {"train": sorted(drawn[val:]), "val": sorted(drawn[test:val]), "test": sorted(drawn[:test])}
