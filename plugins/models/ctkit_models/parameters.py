"""The parameters of contrastive methods. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from ctkit.contracts import InputPath, Params
from ctkit_torch.architectures import check_architecture


def _check_range(low_high: tuple[float, float]) -> tuple[float, float]:
    low, high = low_high
    if low > high:
        raise ValueError(f"must be [low, high] but is [{low:g}, {high:g}]")
    return low_high


# A method restates a field to give it another default; the type carries bounds, description and unit.
Probability = Annotated[float, Field(ge=0, le=1)]
Range = Annotated[tuple[Annotated[float, Field(ge=0)], float], AfterValidator(_check_range)]
Share = Annotated[
    tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(le=1)]], AfterValidator(_check_range)
]
Batch = Annotated[
    Annotated[int, Field(ge=2)] | Literal["auto"],
    Field(
        description="slices per step, over all processes; lowered for a smaller arm; "
        "auto: for each GPU the largest power of two that its memory holds"
    ),
]
UNADDRESSED: dict[str, Any] = {"address": False}  # parameters that change no result
LENGTH: dict[str, Any] = {"pace": False}  # parameters of which no step gets slower or faster
Epochs = Annotated[int | None, Field(ge=1, description="passes over the arm; or give steps", json_schema_extra=LENGTH)]
Optimiser = Annotated[Literal["sgd", "adam", "adamw", "lars"], Field(description="optimiser")]
LearningRate = Annotated[float, Field(gt=0, description="highest learning rate, for a batch of rate_batch")]
RateBatch = Annotated[
    int | None,
    Field(
        ge=1,
        description="batch for which the learning rate is given: it is scaled by batch / rate_batch; none: not scaled",
    ),
]
Momentum = Annotated[float, Field(ge=0, lt=1, description="momentum of SGD and LARS")]
WeightDecay = Annotated[float, Field(ge=0, description="weight decay; 0 also disables the trust ratio of LARS")]
Decay = Annotated[
    Literal["weights", "all"], Field(description="what decays: weights only, or also biases and normalisation")
]
Warmup = Annotated[
    int | None,
    Field(
        ge=0,
        description="length of the linear warm-up, in epochs, or in steps if steps is given; "
        "none: 10 epochs, or a tenth of the run if that is less",
        json_schema_extra=LENGTH,
    ),
]
Temperature = Annotated[float, Field(gt=0, description="temperature of the softmax")]
Hidden = Annotated[int, Field(ge=1, description="width of the projection head's hidden layer")]
Projection = Annotated[int, Field(ge=1, description="width of the projection")]
Scale = Annotated[Share, Field(description="smallest and largest share of the slice's area in a view")]
Flip = Annotated[Probability, Field(description="probability of mirroring")]
Degrees = Annotated[float, Field(ge=0, le=180, description="largest angle of rotation to either side, degrees")]
RotationP = Annotated[Probability, Field(description="probability of rotation")]
JitterP = Annotated[Probability, Field(description="probability of brightness and contrast jitter")]
NoiseP = Annotated[Probability, Field(description="probability of noise")]
BlurP = Annotated[Probability, Field(description="probability of blur")]
LocalViews = Annotated[int, Field(ge=0, description="small views of each slice, in addition to the two large ones")]
LocalScale = Annotated[Share, Field(description="smallest and largest share of the slice's area in a small view")]


class ContrastiveParams(Params):
    """What every contrastive method lets the user choose. The views' defaults are those of the paper's MoCo v2."""

    backbone: Annotated[
        str, AfterValidator(check_architecture), Field(description="network: a name of torchvision, or of timm")
    ] = "resnet50"
    init: InputPath | None = Field(
        None,
        description="weights to start from: a backbone of ctkit, a released checkpoint, or a file of torchvision or "
        "timm; none: random ones",
    )
    channels: Literal[1, 3] = Field(1, description="input channels while training; the backbone is saved with 3")
    size: int = Field(224, ge=16, description="side of a view, pixels")

    epochs: Epochs = 800
    steps: int | None = Field(
        None, ge=1, description="optimiser steps, the same for every arm; or give epochs", json_schema_extra=LENGTH
    )
    batch: Batch = 128
    sampler: Literal["uniform", "one-per-volume"] = Field(
        "uniform",
        description="slices of a batch: any, or at most one per volume, which limits the batch to the number of"
        " volumes in the arm",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic of the network; auto: bf16 on a GPU that supports it, fp32 elsewhere"
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="equal parts of the batch that pass the network one after the other, for less memory; "
        "views, batch statistics and assignments use their own part only",
    )
    checkpointing: bool = Field(
        False,
        description="keep only the inputs of the backbone's blocks, and recompute the rest for gradients: less"
        " memory, more time, the same result",
        json_schema_extra=UNADDRESSED,
    )
    channels_last: bool | None = Field(
        None, description="channels-last memory layout; none: on a GPU", json_schema_extra=UNADDRESSED
    )
    compile: bool = Field(
        False,
        description="compile the backbone with torch.compile: minutes at the start, faster steps",
        json_schema_extra=UNADDRESSED,
    )

    optimiser: Optimiser = "lars"
    learning_rate: LearningRate = 0.3
    rate_batch: RateBatch = None
    momentum: Momentum = 0.9
    trust: float = Field(0.001, gt=0, description="trust coefficient of LARS, for weights that decay")
    weight_decay: WeightDecay = 1e-6
    decay: Decay = "weights"
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup: Warmup = None

    keep: Literal["last", "best"] = Field(
        "last",
        description="which backbone to write: the last, or that with the lowest mean loss over a hundredth of the"
        " run, after the warm-up",
        json_schema_extra=LENGTH,
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs (steps, if steps is given) without a lower mean loss of a hundredth of the run, after"
        " which the training ends; none: no early stopping",
        json_schema_extra=LENGTH,
    )
    least_gain: float = Field(
        0.0,
        ge=0,
        description="smallest decrease of the mean loss that counts for patience",
        json_schema_extra=LENGTH,
    )

    scale: Scale = (0.2, 1.0)
    flip_horizontal: Flip = 0.5
    flip_vertical: Flip = 0.5
    rotation: Degrees = 180.0
    rotation_p: RotationP = 0.5
    brightness: float = Field(0.4, ge=0, description="brightness changes by a factor in 1 - x to 1 + x")
    contrast: float = Field(0.4, ge=0, description="contrast changes by a factor in 1 - x to 1 + x")
    jitter_p: JitterP = 1.0
    blur: Range = Field(
        (0.1, 2.0), description="smallest and largest standard deviation of the blur, pixels of the view"
    )
    blur_p: BlurP = 0.5
    noise: Range = Field((1e-5, 1e-4), description="smallest and largest variance of the noise, on the scale 0 to 1")
    noise_p: NoiseP = 0.5

    checkpoint_minutes: float = Field(
        10.0, ge=0, description="time between checkpoints, minutes", json_schema_extra=UNADDRESSED
    )
    log_every: int | None = Field(
        None, ge=1, description="steps between logged losses; none: 500 over the run", json_schema_extra=UNADDRESSED
    )

    @model_validator(mode="before")
    @classmethod
    def _steps_replace_the_default_epochs(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("steps") is not None and "epochs" not in data:
            return {**data, "epochs": None}
        return data

    @model_validator(mode="after")
    def _one_length(self) -> ContrastiveParams:
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("give either epochs or steps")
        length = self.epochs or self.steps or 0
        unit = "epochs" if self.epochs else "steps"
        for name, part in (("warmup", self.warmup), ("patience", self.patience)):
            if part is not None and part >= length:
                raise ValueError(f"{name} must be shorter than the run of {length} {unit} but is {part}")
        if self.patience is not None and self.patience + (self.warmup or 0) >= length:
            raise ValueError(f"warmup and patience together must be shorter than the run of {length} {unit}")
        return self

    @model_validator(mode="after")
    def _fit_together(self) -> ContrastiveParams:
        if self.least_gain and self.patience is None:
            raise ValueError("least_gain needs patience")
        if self.compile and self.checkpointing:
            raise ValueError("give either compile or checkpointing: torch cannot compile recomputed blocks")
        return self


class MultiCropParams(ContrastiveParams):
    """What methods with small views beside the large ones let the user choose."""

    local_views: LocalViews = 0
    local_size: int | None = Field(
        None, ge=16, description="side of a small view, pixels; none: 3/7 of size, which makes 96 of 224"
    )
    local_scale: LocalScale = (0.1, 0.33)


class SimCLRParams(ContrastiveParams):
    """Settings of SimCLR: optimiser of its paper, views of the CT paper's MoCo v2."""

    rate_batch: RateBatch = 256
    temperature: Temperature = 0.1
    hidden: Hidden = 2048
    projection: Projection = 128


class MoCoParams(ContrastiveParams):
    """Settings of MoCo v2, as the CT paper trained it but for the projection head, which was linear there."""

    optimiser: Optimiser = "sgd"
    learning_rate: LearningRate = 0.015
    weight_decay: WeightDecay = 1e-4
    decay: Decay = "all"
    warmup: Warmup = 0
    temperature: Temperature = 0.07
    projection: Projection = 128
    head: Literal["mlp", "linear"] = Field("mlp", description="projection head; linear as in the first MoCo")
    queue: int = Field(
        65536, ge=1, description="keys of earlier batches, used as negatives; at most those of one epoch"
    )
    key_momentum: float = Field(0.999, ge=0, le=1, description="momentum of the key network per step")


class SwAVParams(MultiCropParams):
    """Settings of SwAV, as the CT paper trained it."""

    learning_rate: LearningRate = 0.15
    scale: Scale = (0.9, 1.0)
    local_views: LocalViews = 6
    local_scale: LocalScale = (0.1, 0.33)
    flip_horizontal: Flip = 0.0
    flip_vertical: Flip = 0.0
    rotation: Degrees = 0.0
    rotation_p: RotationP = 0.0
    jitter_p: JitterP = 0.8
    blur_p: BlurP = 0.5
    noise_p: NoiseP = 0.0
    temperature: Temperature = 0.1
    hidden: Hidden = 2048
    projection: Projection = 128
    prototypes: int = Field(500, ge=2, description="number of prototypes, to which views are assigned")
    frozen: int | None = Field(
        None,
        ge=0,
        description="length of the start with fixed prototypes, in epochs, or in steps if steps is given; "
        "none: 1 epoch, or a tenth of the run if that is less",
    )
    sinkhorn_iterations: int = Field(3, ge=1, description="iterations of the Sinkhorn algorithm")
    epsilon: float = Field(
        0.05, ge=0.02, description="entropy regularisation of the Sinkhorn algorithm; exp(1 / epsilon) must be finite"
    )


class BYOLParams(MultiCropParams):
    """Settings of BYOL, as the CT paper trained it, with the views of its MoCo v2."""

    batch: Batch = 64
    epochs: Epochs = 1000
    optimiser: Optimiser = "adam"
    learning_rate: LearningRate = 1e-3
    weight_decay: WeightDecay = 1.5e-6
    hidden: Hidden = 4096
    projection: Projection = 256
    target_momentum: float = Field(
        0.996, ge=0, le=1, description="momentum of the target network at the first step; rises to 1"
    )


#: A short training that beats random weights; its views are as different as a body's slices, always turned.
SHORT: dict[str, Any] = {
    "backbone": "resnet18", "size": 32, "epochs": None, "optimiser": "adam", "learning_rate": 1e-3,
    "scale": (0.5, 1.0), "flip_horizontal": 0.5, "flip_vertical": 0.5, "rotation": 180.0, "rotation_p": 1.0,
    "jitter_p": 1.0, "blur_p": 0.0,  # a blur leaves little of 32 pixels
}  # fmt: skip


def faults_on_cpu(params: ContrastiveParams) -> Iterator[str]:
    """Say what of the parameters needs a GPU."""
    if params.precision == "fp16":
        yield "precision fp16 needs a GPU; on the CPU use bf16 or fp32"
    if params.batch == "auto":
        yield 'batch "auto" finds the largest batch for the memory of a GPU; on the CPU give a number'
