"""The command ``ctkit get``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctkit import output_options, quantities
from ctkit.errors import RequestError, StorageError, nearest
from ctkit_downloads import decathlon, idc, medmnist

if TYPE_CHECKING:
    from ctkit import Console


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; complete files in it are kept.")
@click.option("--patients", type=click.IntRange(1), help="Only the first N patients of a set of scans.")
@click.option(
    "--size", type=click.Choice([str(size) for size in medmnist.SIZES]), help="Side of MedMNIST's images, in pixels."
)
@click.option("--endpoint", metavar="URL", help="Server to download from, instead of the public one.")
@click.option("--dry-run", is_flag=True, help="Print what would be downloaded; download nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@output_options
def get(
    name: str,
    out: Path,
    patients: int | None,
    size: str | None,
    endpoint: str | None,
    dry_run: bool,
    yes: bool,
    console: Console,
) -> None:
    """Download the public data set NAME into the folder --out. A stopped download resumes.

    \b
    lidc-idri           CT scans and nodule segmentations, from Imaging Data Commons
    fdg-pet-ct-lesions  CT scans, from Imaging Data Commons
    msd-liver, ...      CT scans with masks of the Medical Segmentation Decathlon: also msd-lung, msd-pancreas,
                        msd-hepatic-vessel, msd-spleen, msd-colon
    organsmnist, ...    a set of MedMNIST with one label per image, from its archive

    The scans need pip install 'ctkit-ssl[get]'. Files are checked: scans by their number and size, which is all that
    their index holds, the other sets by their MD5.
    """  # noqa: D301  # a real backspace is click's mark for lines that stay as they are
    order = _order(name, out, patients, size, endpoint)
    console.say(f"{order.summary}, of which {quantities.size(order.missing)} are missing in {out}")
    for line in order.terms:
        console.say(line)
    if dry_run:
        return
    if order.missing and not (yes or _agreed(f"Fetch {quantities.size(order.missing)} into {out}?")):
        return
    _room_for(order.missing, out)
    console.say(order.fetch(console))


def _order(
    name: str, out: Path, patients: int | None, size: str | None, endpoint: str | None
) -> idc.SeriesOrder | medmnist.FileOrder | decathlon.ArchiveOrder:
    if name in idc.COLLECTIONS:
        if size is not None:
            raise RequestError(f"--size is for sets of MedMNIST; {name} has scans")
        return idc.order(name, out, patients, endpoint or idc.ENDPOINT)
    if name in decathlon.SETS:
        if size is not None or patients is not None:
            option = "--size" if size is not None else "--patients"
            raise RequestError(f"{option} is for other sets; {name} is one archive of volumes")
        return decathlon.ArchiveOrder(name, out, endpoint or decathlon.ENDPOINT)
    if name in medmnist.SETS:
        sizes = {str(side): side for side in medmnist.SIZES}
        if patients is not None:
            raise RequestError(f"--patients is for sets of scans; {name} is one file")
        return medmnist.FileOrder(name, sizes.get(size or "", 28), out, endpoint or medmnist.ENDPOINT)
    raise RequestError(
        f"there is no data set {name!r} to download; "
        + (medmnist.UNFIT.get(name) or nearest(name, [*idc.COLLECTIONS, *decathlon.SETS, *medmnist.SETS]))
    )


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        raise RequestError("no terminal to ask for confirmation; add --yes to download, or --dry-run to only look")
    return click.confirm(question)


def _room_for(needed: int, folder: Path) -> None:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise StorageError(
            f"{folder} needs {quantities.size(needed)}, but {quantities.size(free)} are free; give another --out, or "
            "fewer --patients"
        )
