"""Method ``untrained``: random or given weights as they are, for a ``[[baseline]]`` to measure pre-training by."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, Field

from ctkit.contracts import InputPath, Method, Params, Pretrained, Pretraining
from ctkit.errors import DataError
from ctkit_torch.architectures import check_architecture
from ctkit_torch.weights import faults_of_file


class UntrainedParams(Params):
    """Which network, and where its weights come from."""

    backbone: Annotated[
        str,
        AfterValidator(check_architecture),
        Field(
            description="network: a name of torchvision, or of timm; in a [[baseline]] default: the network of the"
            " pre-training"
        ),
    ] = "resnet50"
    init: InputPath | None = Field(
        None,
        description="weights: a backbone of ctkit, a released checkpoint, or a file of torchvision or timm for "
        "ImageNet; none: the random weights from which pre-training with the same seed starts",
    )
    mean_std: tuple[float, Annotated[float, Field(gt=0)]] | None = Field(
        None,
        description="mean and standard deviation for the normalisation of images, on the scale 0 to 1, for instance "
        "[0.449, 0.226] for ImageNet; none: as a backbone of ctkit says, of other files the paper's, for random "
        "weights those of the reference arm's slices",
    )


class Untrained(Method[UntrainedParams]):
    """Takes no step. Random weights differ from seed to seed; given ones serve all seeds."""

    def __init__(self, params: UntrainedParams | None = None) -> None:
        super().__init__(params)
        self.draws = self.params.init is None

    def check(self, device: str | None) -> Iterable[str]:
        """Say why ``init`` cannot be loaded."""
        return faults_of_file(self.params.init, self.params.backbone) if self.params.init else ()

    def pretrain(self, job: Pretraining) -> Pretrained:
        """Write the trunk as it is. Raises ``DataError`` where ``init`` holds another network."""
        from ctkit_torch.backbones import Backbone, load_backbone, random_backbone, save_backbone  # brings torch

        params = self.params
        if params.init is None:
            trunk = random_backbone(params.backbone, job.seed).trunk
            found = Backbone(trunk, params.backbone, job.rows.mean, job.rows.std or 1.0)
        else:
            found = load_backbone(params.init, params.backbone)
        if found.architecture != params.backbone:
            raise DataError(f"init is a {found.architecture} but backbone is {params.backbone}; make them equal")
        mean, std = params.mean_std or (found.mean, found.std)
        path = job.folder / "backbone.safetensors"
        save_backbone(path, found.trunk, mean=mean, std=std, metadata={**job.metadata, "steps": "0"})
        return Pretrained(path, steps=0, epochs=0.0, batch=0, seconds=0.0)
