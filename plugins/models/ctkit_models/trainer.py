"""Lightning's trainer for the hardware that a job is given."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import nn

from ctkit.contracts import Pretraining
from ctkit.errors import RequestError
from ctkit_models.lightning_overrides import OwnTermination
from ctkit_models.parameters import ContrastiveParams, faults_on_cpu
from ctkit_models.ranks import JoinedRank, Rank
from ctkit_torch.precision import has_bf16, unusable


def check_device(params: ContrastiveParams, job: Pretraining) -> None:
    """Raise ``RequestError`` for a job that this machine cannot do."""
    on_gpu = job_on_gpu(job)
    if on_gpu and (why := unusable()):
        raise RequestError(f'{why}, or compute on "cpu"')
    if on_gpu and torch.cuda.device_count() < job.devices:
        raise RequestError(f"devices is {job.devices} but torch sees {torch.cuda.device_count()} GPUs; use fewer")
    for fault in () if on_gpu else faults_on_cpu(params):
        raise RequestError(fault)


def job_on_gpu(job: Pretraining) -> bool:
    """Whether the job is to be done on GPUs."""
    return torch.device(job.device).type == "cuda"


def trainer_for(params: ContrastiveParams, job: Pretraining, rank: Rank) -> lightning.Trainer:
    """A trainer that does what is left of a run, and nothing that the engine does."""
    on_gpu, alone = job_on_gpu(job), rank.world == 1
    shared = [SharedStatistics()] if on_gpu and not alone else []
    return lightning.Trainer(
        accelerator="gpu" if on_gpu else "cpu",
        devices=[rank.gpu] if on_gpu else 1,
        strategy="auto" if alone else "ddp",
        callbacks=[OwnTermination()],
        plugins=[LightningEnvironment() if alone else JoinedRank(rank), *shared],  # no cluster that Lightning may find
        precision=_precision(params, on_gpu),
        accumulate_grad_batches=params.accumulate,
        max_epochs=1,  # to Lightning, what is left of the run is one pass over the loader
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        default_root_dir=job.folder,
    )


def _precision(params: ContrastiveParams, on_gpu: bool) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    if params.precision == "fp16":
        return "16-mixed"
    if params.precision == "bf16" or (params.precision == "auto" and on_gpu and has_bf16()):
        return "bf16-mixed"
    return "32-true"


class SharedStatistics(LayerSync):
    """Batch normalisation over the batches of all processes, in networks of torchvision and of timm.

    Lightning's own takes the activations away that are a part of timm's batch normalisation.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        """Replace the batch normalisations of ``model``; names and weights stay."""
        convert: Callable[[nn.Module], nn.Module] = nn.SyncBatchNorm.convert_sync_batchnorm
        if find_spec("timm"):
            from timm.layers.norm_act import convert_sync_batchnorm as convert
        return convert(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Leave the model as it is: in evaluation mode nothing is shared."""
        return model
