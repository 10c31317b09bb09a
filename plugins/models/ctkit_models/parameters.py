"""The parameters that contrastive methods share. Imports no torch."""

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
    Field(ge=1, description="batch the learning rate is meant for: it is scaled by batch / rate_batch; none: as it is"),
]
Momentum = Annotated[float, Field(ge=0, lt=1, description="momentum of SGD and LARS")]
WeightDecay = Annotated[float, Field(ge=0, description="weight decay; 0 takes LARS its trust ratio as well")]
Decay = Annotated[
    Literal["weights", "all"], Field(description="what decays: weights, or biases and normalisation as well")
]
Warmup = Annotated[
    int | None,
    Field(
        ge=0,
        description="length of the linear warm-up, in epochs or, where steps is given, in steps; "
        "none: 10 epochs, or a tenth of the run where that is less",
        json_schema_extra=LENGTH,
    ),
]
Temperature = Annotated[float, Field(gt=0, description="temperature of the softmax")]
Hidden = Annotated[int, Field(ge=1, description="width of the projection head's hidden layer")]
Projection = Annotated[int, Field(ge=1, description="width of the projection")]
Scale = Annotated[Share, Field(description="share of the slice's area that a view shows, from and to")]
Flip = Annotated[Probability, Field(description="probability of mirroring")]
Degrees = Annotated[float, Field(ge=0, le=180, description="greatest angle of rotation to either side, degrees")]
RotationP = Annotated[Probability, Field(description="probability of rotation")]
JitterP = Annotated[Probability, Field(description="probability of brightness and contrast jitter")]
NoiseP = Annotated[Probability, Field(description="probability of noise")]
BlurP = Annotated[Probability, Field(description="probability of blur")]
LocalViews = Annotated[int, Field(ge=0, description="small views of each slice beside the two large ones")]
LocalScale = Annotated[Share, Field(description="share of the slice's area that a small view shows, from and to")]


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
        description="which slices make a batch: any, or no two of one volume, which lowers the batch to the number of "
        "volumes in the arm",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="arithmetic of the network; auto: bf16 on a GPU that has it, fp32 elsewhere"
    )
    accumulate: int = Field(
        1,
        ge=1,
        description="equal parts of the batch that pass the network one after the other, for less memory; "
        "views, batch statistics and assignments see their own part only",
    )
    checkpointing: bool = Field(
        False,
        description="keep only the inputs of the trunk's blocks, and compute the rest again for gradients: "
        "less memory, more time, the same result",
        json_schema_extra=UNADDRESSED,
    )
    channels_last: bool | None = Field(
        None, description="lay a pixel's channels side by side in memory; none: on a GPU", json_schema_extra=UNADDRESSED
    )
    compile: bool = Field(
        False,
        description="have torch compile the trunk: minutes at the start, faster steps",
        json_schema_extra=UNADDRESSED,
    )

    optimiser: Optimiser = "lars"
    learning_rate: LearningRate = 0.3
    rate_batch: RateBatch = None
    momentum: Momentum = 0.9
    trust: float = Field(0.001, gt=0, description="trust coefficient of LARS, for what decays")
    weight_decay: WeightDecay = 1e-6
    decay: Decay = "weights"
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate after the warm-up")
    warmup: Warmup = None

    keep: Literal["last", "best"] = Field(
        "last",
        description="which backbone is written: the last, or that of the hundredth of the run, after the warm-up, with "
        "the lowest mean loss",
        json_schema_extra=LENGTH,
    )
    patience: int | None = Field(
        None,
        ge=1,
        description="epochs or, where steps is given, steps without a lower mean loss of a hundredth of the run, after "
        "which the training ends; none: it never ends early",
        json_schema_extra=LENGTH,
    )
    least_gain: float = Field(
        0.0,
        ge=0,
        description="for patience a mean loss is lower where it is lower by more than this",
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
    blur: Range = Field((0.1, 2.0), description="standard deviation of the blur, from and to, pixels of the view")
    blur_p: BlurP = 0.5
    noise: Range = Field((1e-5, 1e-4), description="variance of the noise, from and to, on the scale 0 to 1")
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
            raise ValueError("give either compile or checkpointing: torch cannot compile what it computes twice")
        return self


class MultiCropParams(ContrastiveParams):
    """What methods with small views beside the large ones let the user choose."""

    local_views: LocalViews = 0
    local_size: int | None = Field(
        None, ge=16, description="side of a small view, pixels; none: 3/7 of size, which makes 96 of 224"
    )
    local_scale: LocalScale = (0.1, 0.33)


def faults_on_cpu(params: ContrastiveParams) -> Iterator[str]:
    """Say what of the parameters needs a GPU."""
    if params.precision == "fp16":
        yield "precision fp16 needs a GPU; on the CPU use bf16 or fp32"
    if params.batch == "auto":
        yield 'batch "auto" looks for what the memory of a GPU holds; on the CPU give a number'
