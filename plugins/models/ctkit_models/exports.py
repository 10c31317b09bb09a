"""Backbones for use without ctkit: written in one of several formats, loaded again, and compared with the original."""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from ctkit.contracts import Exported, ExportFormat
from ctkit.errors import CtkitError, DataError, RequestError
from ctkit.files import write_bytes, write_json, writing
from ctkit_models import monai_bundle
from ctkit_models.timm_names import timm_network, timm_weights
from ctkit_torch.architectures import TORCHVISION
from ctkit_torch.backbones import Backbone, load_backbone, safetensors_bytes
from ctkit_torch.trunks import VisionTransformerTrunk

TOLERANCE = 1e-4  #: of the greatest feature; sums in another order differ by some 1e-6 of it
IMAGES = 3  #: that are compared: not as many as a format is written with, for it must take any number
EQUAL_SLICES = 3  #: of a volume that is compared in 3 dimensions; its ends see the padding


def export_backbone(path: Path, form: ExportFormat, out: Path) -> Exported:
    """Write the backbone in the file ``path`` to ``out``, a file or for timm a folder, and check what was written.

    Raises ``RequestError`` where a library is missing or the format does not fit the network, and ``DataError`` where
    the features differ; nothing is left then.
    """
    chosen = FORMATS[form]()
    missing = [name for name in chosen.needs if find_spec(name) is None]
    if missing:
        raise RequestError(f'format {form} needs {" and ".join(missing)}: pip install "ctkit-ssl[{form}]"')
    network = ExportedNetwork.of(load_backbone(path))
    images = network.random_images(IMAGES)
    if chosen.grey:
        images = images[:, :1].expand(-1, 3, -1, -1)
    original: Tensor = network.module(images)
    chosen.write(network, out)
    difference = float((chosen.features(network, out, images) - original).abs().max())
    greatest = float(original.abs().max())
    if not difference <= TOLERANCE * greatest:
        for file in chosen.files(out):
            file.unlink()
        for folder in {file.parent for file in chosen.files(out)} - {out, out.parent}:  # of a bundle
            with suppress(OSError):  # it holds something else
                folder.rmdir()
        raise DataError(
            f"{out} gave features that differ by up to {difference:.2g} from the original's, which reach {greatest:.2g}"
        )
    compared = f"{original.shape[1]} features of {IMAGES} images of {network.size} pixels"
    return Exported(out, network.mean, network.std, compared, difference, greatest, chosen.loading(network, out))


@dataclass(frozen=True)
class ExportedNetwork:
    """What is exported: the library's own network in evaluation mode, (n, 3, size, size) -> (n, width)."""

    module: nn.Module
    architecture: str
    width: int  #: of the features
    size: int  #: side of the images it was trained with, pixels
    any_size: bool  #: whether it takes others
    mean: float  #: of the training slices, on the scale 0..1
    std: float
    metadata: Mapping[str, str]  #: of the backbone

    @classmethod
    def of(cls, backbone: Backbone) -> ExportedNetwork:
        """Take the network of a trunk. A vision transformer of torchvision itself takes one size of images."""
        trunk, metadata = backbone.trunk, backbone.metadata
        module: Any = trunk.network.requires_grad_(False)
        transformer = isinstance(trunk, VisionTransformerTrunk)
        size = module.image_size if transformer else int(metadata.get("size", 224))
        any_size = backbone.architecture in TORCHVISION and not transformer
        return cls(module, backbone.architecture, trunk.width, size, any_size, backbone.mean, backbone.std, metadata)

    @property
    def normalised(self) -> str:
        """Python that normalises ``images``."""
        return f"(images - {self.mean:.6g}) / {self.std:.6g}"

    def random_images(self, count: int) -> Tensor:
        """Normalised images (count, 3, size, size), always the same."""
        generator = torch.Generator().manual_seed(0)
        return (torch.rand(count, 3, self.size, self.size, generator=generator) - self.mean) / self.std


class Format(ABC):
    """A way to write a network, load it and use it."""

    needs: ClassVar[tuple[str, ...]] = ()  #: modules beside torch and torchvision
    grey: ClassVar[bool] = False  #: takes images of one channel

    @abstractmethod
    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Write to ``out``."""

    def files(self, out: Path) -> tuple[Path, ...]:
        """The files that were written."""
        return (out,)

    @abstractmethod
    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Load what was written and return its features (n, width) of normalised images."""

    @abstractmethod
    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """Lines of Python that turn ``images`` into ``features``."""


class Torchvision(Format):
    """Weights under torchvision's names, normalisation in the metadata."""

    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Write the weights. Raises ``RequestError`` for a network that torchvision does not have."""
        if network.architecture not in TORCHVISION:
            raise RequestError(f"torchvision has no {network.architecture}; export it as timm, onnx or torchscript")
        write_bytes(out, safetensors_bytes(network.module.state_dict(), network.metadata))

    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Features of torchvision's network with these weights."""
        plain: nn.Module = torchvision.models.get_model(network.architecture)
        plain.set_submodule(_classifier(network), nn.Identity())
        plain.load_state_dict(safetensors.torch.load_file(path))
        features: Tensor = plain.eval().requires_grad_(False)(images)
        return features

    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """As ``features``."""
        return (
            "import safetensors.torch, torch, torchvision",
            f'network = torchvision.models.get_model("{network.architecture}").eval()',
            f'network.set_submodule("{_classifier(network)}", torch.nn.Identity())',
            f"network.load_state_dict(safetensors.torch.load_file({str(path)!r}))",
            f"features = network({network.normalised})",
        )


class Timm(Format):
    """A folder that timm loads as ``local-dir:``, normalisation where timm looks for it."""

    needs = ("timm",)

    def files(self, out: Path) -> tuple[Path, ...]:
        """Weights and configuration, under the names that timm looks for."""
        return out / "model.safetensors", out / "config.json"

    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Write both."""
        weights, config = self.files(out)
        named = timm_weights(network.architecture, network.module.state_dict())
        write_bytes(weights, safetensors_bytes(named, network.metadata))
        write_json(
            config,
            {
                "architecture": timm_network(network.architecture),
                "num_classes": 0,
                "pretrained_cfg": {
                    "mean": [network.mean] * 3,
                    "std": [network.std] * 3,
                    "input_size": [3, network.size, network.size],
                    "num_classes": 0,
                },
                "ctkit": dict(network.metadata),
            },
        )

    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Features of timm's network with these weights."""
        import timm

        model: Any = timm.create_model(f"local-dir:{path}", pretrained=True)
        features: Tensor = model.eval().requires_grad_(False)(images)
        return features

    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """As ``features``."""
        return (
            "import timm",
            f"network = timm.create_model({f'local-dir:{path}'!r}, pretrained=True).eval()",
            f"features = network({network.normalised})",
        )


class Onnx(Format):
    """Network and weights for any runtime of ONNX, normalisation in the metadata."""

    needs = ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Write one file that takes any number of images, of any size where the network does."""
        free = dict.fromkeys((0, 2, 3) if network.any_size else (0,), torch.export.Dim.DYNAMIC)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*(LeafSpec|onnxscript)", FutureWarning)  # torch's own use of libraries
            program = _program(network, free)
        program.model.metadata_props.update(network.metadata)
        with writing(out) as temporary:
            program.save(temporary, external_data=False)

    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Features that onnxruntime computes on the CPU."""
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """As ``features``; ``images`` are an array, float32."""
        return (
            "import onnxruntime",
            f"session = onnxruntime.InferenceSession({str(path)!r})",
            f'(features,) = session.run(None, {{"images": {network.normalised}}})',
        )


def _program(network: ExportedNetwork, free: dict[int, Any]) -> Any:
    """The network in ONNX, whose ``free`` axes may have any length."""
    try:
        return torch.onnx.export(
            network.module,
            (network.random_images(2),),
            input_names=["images"],
            output_names=["features"],
            dynamo=True,
            dynamic_shapes=(free,),
            verbose=False,
        )
    except Exception as error:  # torch's exporter has errors of its own for every step, not all of them public
        raise CtkitError(
            f"torch {torch.__version__} cannot convert this network to ONNX ({type(error).__name__}); a newer torch and"
            " onnxscript may, and torchscript needs neither"
        ) from error


class TorchScript(Format):
    """Network and weights for torch without Python, normalisation as the attributes ``mean`` and ``std``."""

    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Trace the network and write it."""
        module = deepcopy(network.module)
        module.register_buffer("mean", torch.tensor(network.mean))
        module.register_buffer("std", torch.tensor(network.std))
        torchscript: Any = torch.jit  # has no types
        with _without_deprecations(), _plain_attention():
            warnings.simplefilter("ignore", torchscript.TracerWarning)  # of sizes, which are fixed where it warns
            traced = torchscript.trace(module, network.random_images(2), check_trace=False)
            with writing(out) as temporary:
                torchscript.save(traced, temporary, _extra_files={"metadata.json": json.dumps(dict(network.metadata))})

    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Features of the traced network."""
        torchscript: Any = torch.jit
        with _without_deprecations():
            features: Tensor = torchscript.load(path, map_location="cpu")(images)
        return features

    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """As ``features``."""
        return (
            "import torch",
            f"network = torch.jit.load({str(path)!r})",
            "features = network((images - network.mean) / network.std)",
        )


class Monai(Format):
    """A MONAI bundle of a ResNet for grey images: the weights, how to build and run the network, and metadata."""

    grey = True

    def __init__(self, dimensions: int = 2) -> None:
        self.dimensions = dimensions

    def files(self, out: Path) -> tuple[Path, ...]:
        """Weights, how to run, and metadata."""
        return out / "models" / "model.pt", out / "configs" / "inference.json", out / "configs" / "metadata.json"

    def write(self, network: ExportedNetwork, out: Path) -> None:
        """Write them. Raises ``RequestError`` for a network that MONAI does not have."""
        weights, run, facts = self.files(out)
        kind, scale = (network.architecture, self.dimensions), (network.mean, network.std)
        config = monai_bundle.inference(*kind, network.size, *scale, network.metadata.get("rendering"))
        with writing(weights) as temporary:
            torch.save(monai_bundle.monai_weights(network.module.state_dict(), self.dimensions), temporary)
        write_json(run, config)
        write_json(facts, monai_bundle.metadata(*kind, network.width, *scale, network.metadata))

    def features(self, network: ExportedNetwork, path: Path, images: Tensor) -> Tensor:
        """Features of the network that MONAI builds of the bundle; in 3 dimensions, each image is a volume's slices."""
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(path / "configs" / "inference.json")
        parser.read_meta(path / "configs" / "metadata.json")
        parser["bundle_root"], parser["device"] = str(path), "cpu"
        grey = images[:, :1]
        volumes = grey if self.dimensions == 2 else grey[..., None].expand(-1, -1, -1, -1, EQUAL_SLICES)
        features: Tensor = parser.get_parsed_content("network")(volumes)
        return features

    def loading(self, network: ExportedNetwork, path: Path) -> tuple[str, ...]:
        """As ``features``; in 3 dimensions, of volumes of one slice."""
        return (
            "from monai.bundle import ConfigParser",
            "parser = ConfigParser()",
            f"parser.read_config({str(path / 'configs' / 'inference.json')!r})",
            f'parser["bundle_root"], parser["device"] = {str(path)!r}, "cpu"',
            'network = parser.get_parsed_content("network")',
            f"images = ({network.normalised})[:, :1]",
            f"features = network(images{'[..., None]' if self.dimensions == 3 else ''})",
        )


FORMATS: Mapping[ExportFormat, Callable[[], Format]] = {
    "torchvision": Torchvision,
    "timm": Timm,
    "onnx": Onnx,
    "torchscript": TorchScript,
    "monai": Monai,
    "monai-3d": partial(Monai, 3),
}


def _classifier(network: ExportedNetwork) -> str:
    """Name of the layer that torchvision's network has and a trunk has not."""
    names: list[str] = [name for name, module in network.module.named_modules() if isinstance(module, nn.Identity)]
    return names[-1]


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Say nothing of torch's plan to give TorchScript up: who asks for the format has a reason."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)")
        yield


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Keep torch from its fused attention, which a trace would hold to the number of images that it saw."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)
