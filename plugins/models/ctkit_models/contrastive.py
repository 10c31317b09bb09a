"""Bases of contrastive methods. Import no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ctkit.contracts import Exported, ExportFormat, Method, Pretrained, Pretraining
from ctkit.errors import DataError
from ctkit_models.imports import without_matplotlib
from ctkit_models.parameters import ContrastiveParams, MultiCropParams, faults_on_cpu
from ctkit_models.plan import Plan, plan_run
from ctkit_torch.weights import faults_of_file

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_models.views import Normalise, View
    from ctkit_torch.trunks import Trunk

P = TypeVar("P", bound=ContrastiveParams)
M = TypeVar("M", bound=MultiCropParams)


class Contrastive(Method[P], ABC):
    """A method that learns by comparing views: a subclass names its parameters and builds its network."""

    @abstractmethod
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """The module that is trained: it turns the views of a batch into a loss, and holds all the method's state."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """The views of each slice; two of the same kind by default. ``normalise`` is to be their last step."""
        from ctkit_models.views import augmented_view

        return [augmented_view(self.params, normalise, self.params.size, self.params.scale)] * 2

    def unsettled(self, plan: Plan) -> int:
        """First steps whose losses say nothing of the network, beside those of the warm-up."""
        return 0

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """What the user must know of how the parameters were fitted to the arm."""
        parts, notes = self.params.accumulate, self._batch_notes(plan)
        if parts == 1:
            return notes
        each = plan.batch // parts
        return (*notes, f"each step adds up {parts} parts of {each} slices, which are independent of each other")

    def _batch_notes(self, plan: Plan) -> tuple[str, ...]:
        asked = self.params.batch
        if asked == "auto":
            return (f"batch auto is {plan.batch}: {plan.batch // plan.pieces} slices at a time on each device",)
        if plan.batch == asked:
            return ()
        change = "lowered" if plan.batch < asked else "raised"
        reasons = [f"the arm has {plan.slices} slices"] if plan.slices < asked else []
        if self.params.sampler == "one-per-volume" and plan.volumes < asked:
            arm = f"the arm has {plan.slices} slices of {plan.volumes} volumes"
            reasons = [f"{arm}, and sampler one-per-volume uses at most one of each"]
        if plan.pieces > 1:
            reasons.append(f"it consists of {plan.pieces} equal parts of at least 2")
        return (f"batch {change} from {asked} to {plan.batch}: {', and '.join(reasons)}",)

    def steps(self, slices: int, volumes: int) -> int | None:
        """Optimiser steps on ``slices`` of so many volumes, at most; None where a batch has to be found by trying."""
        if self.params.batch == "auto":
            return None
        try:
            return plan_run(self.params, slices, volumes=volumes).steps
        except DataError:  # too few, which the training itself will say
            return None

    def check(self, device: str | None) -> Iterable[str]:
        """Say why ``init`` cannot be loaded, and what the CPU cannot do."""
        if self.params.init is not None:
            yield from faults_of_file(self.params.init, self.params.backbone)
        if device == "cpu":
            yield from faults_on_cpu(self.params)

    def pretrain(self, job: Pretraining) -> Pretrained:
        """Train on the job's slices, from its last checkpoint where there is one, and write the backbone."""
        with without_matplotlib():
            from ctkit_models.engine import pretrain

        return pretrain(self, job)

    @classmethod
    def export(cls, backbone: Path, form: ExportFormat, out: Path) -> Exported:
        """Write a backbone for torchvision, timm, ONNX, TorchScript or MONAI, and compare its features."""
        from ctkit_models.exports import export_backbone

        return export_backbone(backbone, form, out)


class MultiCrop(Contrastive[M], ABC):
    """Multi-crop (Caron et al. 2020, arXiv 2006.09882): two large views of a slice, and small ones that cost little."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """Large views first."""
        from ctkit_models.views import augmented_view

        params = self.params
        local_size = params.local_size or round(params.size * 3 / 7)
        small = augmented_view(params, normalise, local_size, params.local_scale)
        return [*super().views(normalise), *[small] * params.local_views]
