"""The commands ``ctkit export`` and ``export-slices``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from ctkit import complete_arms, output_options
from ctkit.contracts import ExportFormat, SliceFormat

if TYPE_CHECKING:
    from ctkit import Console

_BACKBONES = [name for name in get_args(ExportFormat) if name != "monai-3d"]


@click.command("export-slices")
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("arm", shell_complete=complete_arms)
@click.option(
    "--format", "form", type=click.Choice(get_args(SliceFormat)), required=True, help="What to write; see below."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new or empty folder.")
@output_options
def export_slices(run: Path, arm: str, form: SliceFormat, out: Path, console: Console) -> None:
    """Export the slices that ARM of the folder RUN keeps; a stopped export resumes.

    \b
    list   slices.txt with the paths of the source files
    dicom  links to the source files, copies where the disk has no links
    png    8 bits at the full matrix, in the run's training rendering
    nifti  a file for each volume

    Files are named by a digest of the volume and the number of the slice. The list, and what is in DICOM files, name
    patients where the source does.
    """  # noqa: D301  # a real backspace is click's mark for lines that stay as they are
    from ctkit import open_run
    from ctkit_exporters import slices as exporting

    with open_run(run).revisit(arm, console) as opened:
        count = exporting.export_slices(opened, form, out)
    console.say(f"{count} slices exported as {form}: {out}")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(_BACKBONES), required=True, help="What to write; see below.")
@click.option("--spatial-dims", "dimensions", type=click.Choice(["2", "3"]), default="2", help="Of a bundle for MONAI.")
@click.option("--arm", help="Only this arm.")
@click.option("--pretrain", help="Only this pre-training.")
@click.option("--seed", type=int, help="Only this seed.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; or for one backbone a file.")
@output_options
def export(
    run: Path,
    form: ExportFormat,
    dimensions: str,
    arm: str | None,
    pretrain: str | None,
    seed: int | None,
    out: Path,
    console: Console,
) -> None:
    """Export the backbones of the folder RUN for use without ctkit: all, or those of an arm, a pre-training, a seed.

    \b
    torchvision  NAME.safetensors, weights under torchvision's names
    timm         NAME/, a folder that timm loads by its path
    onnx         NAME.onnx, network and weights
    torchscript  NAME.pt, network and weights
    monai        NAME/, a bundle of a ResNet for MONAI; with --spatial-dims 3 for volumes

    NAME is ARM-PRETRAIN-seed-SEED. Each file is loaded again and its features compared with the original's. Mean and
    standard deviation, which images have to be normalised with, are in each file and differ from arm to arm.
    """  # noqa: D301  # a real backspace is click's mark for lines that stay as they are
    from ctkit import open_run
    from ctkit_exporters import backbones as exporting

    if dimensions == "3":
        if form != "monai":
            raise click.UsageError("--spatial-dims 3 needs --format monai")
        form = "monai-3d"
    chosen = open_run(run).find_backbones(arm, pretrain, seed)
    written = exporting.export_backbones(chosen, form, out)
    exporting.tell(written, console)
