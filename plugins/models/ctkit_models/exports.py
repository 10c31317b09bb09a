"""Backbones for use without ctkit: written in one of four formats, loaded again, and compared with the original."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from ctkit.contracts import Exported, ExportFormat
from ctkit.errors import DataError, RequestError
from ctkit_models.export_formats import FORMATS, ExportedNetwork
from ctkit_torch.backbones import load_backbone

TOLERANCE = 1e-4  #: of the greatest feature; sums in another order differ by some 1e-6 of it
IMAGES = 3  #: that are compared: not as many as a format is written with, for it must take any number


def export_backbone(path: Path, form: ExportFormat, out: Path) -> Exported:
    """Write the backbone in the file ``path`` to ``out``, a file or for timm a folder, and check what was written.

    Raises ``RequestError`` where a library is missing or the format does not fit the network, and ``DataError`` where
    the features differ; nothing is left then.
    """
    chosen = FORMATS[form]()
    missing = [name for name in chosen.needs if find_spec(name) is None]
    if missing:
        raise RequestError(f'format {form} needs {" and ".join(missing)}: pip install "ctkit[{form}]"')
    network = ExportedNetwork.of(load_backbone(path))
    images = network.random_images(IMAGES)
    original: Tensor = network.module(images)
    chosen.write(network, out)
    difference = float((chosen.features(network, out, images) - original).abs().max())
    greatest = float(original.abs().max())
    if not difference <= TOLERANCE * greatest:
        for file in chosen.files(out):
            file.unlink()
        raise DataError(
            f"{out} gave features that differ by up to {difference:.2g} from the original's, which reach {greatest:.2g}"
        )
    compared = f"{original.shape[1]} features of {IMAGES} images of {network.size} pixels"
    return Exported(out, network.mean, network.std, compared, difference, greatest, chosen.loading(network, out))
