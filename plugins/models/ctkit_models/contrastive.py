"""Base of contrastive methods: the parameters they share and the length of a run. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from ctkit.contracts import Exported, ExportFormat, InputPath, Method, Params, Pretrained, Pretraining
from ctkit.errors import DataError
from ctkit_models.architectures import check_architecture

if TYPE_CHECKING:
    from ctkit_models.network import Network
    from ctkit_models.trunks import Trunk
    from ctkit_models.views import Normalise, View


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
        json_schema_extra={"address": False},
    )
    channels_last: bool | None = Field(
        None,
        description="lay a pixel's channels side by side in memory; none: on a GPU",
        json_schema_extra={"address": False},
    )
    compile: bool = Field(
        False,
        description="have torch compile the trunk: minutes at the start, faster steps",
        json_schema_extra={"address": False},
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
        10.0, ge=0, description="time between checkpoints, minutes", json_schema_extra={"address": False}
    )
    log_every: int | None = Field(
        None,
        ge=1,
        description="steps between logged losses; none: 500 over the run",
        json_schema_extra={"address": False},
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
    def _gain_of_something(self) -> ContrastiveParams:
        if self.least_gain and self.patience is None:
            raise ValueError("least_gain needs patience")
        return self

    @model_validator(mode="after")
    def _compiled_or_checkpointed(self) -> ContrastiveParams:
        if self.compile and self.checkpointing:
            raise ValueError("give either compile or checkpointing: torch cannot compile what it computes twice")
        return self


@dataclass(frozen=True)
class Plan:
    """The length of one run, in optimiser steps."""

    slices: int  #: in the arm
    volumes: int  #: that they come from
    batch: int  #: slices per step, over all processes
    steps_per_epoch: int
    steps: int
    unit: int  #: steps in one of what the user counts in: an epoch, or a step where ``steps`` was given
    pieces: int = 1  #: equal parts of the batch: accumulated ones, each shared by the processes

    def part(self, given: int | None, epochs: int) -> int:
        """Steps of a part of the run: as ``given`` by the user; else ``epochs``, or a tenth of the run if less."""
        return min(epochs * self.steps_per_epoch, self.steps // 10) if given is None else given * self.unit


def plan_run(
    params: ContrastiveParams, slices: int, processes: int = 1, batch: int | None = None, volumes: int | None = None
) -> Plan:
    """Fit batch and length to an arm of ``slices`` from ``volumes``, by default one for each slice.

    ``processes`` share the training; ``batch`` takes the place of "auto". Raises ``DataError`` where a process would
    have less than two slices at a time.
    """
    pieces = processes * params.accumulate
    least = 2 * pieces
    in_parts = f" in {pieces} parts" if pieces > 1 else ""
    if slices < least:
        raise DataError(
            f"contrastive training{in_parts} needs at least {least} slices but the arm has {slices}; keep more of them"
        )
    most = largest_batch(params, slices, volumes or slices)
    if most < least:
        raise DataError(
            f"sampler one-per-volume{in_parts} needs slices of at least {least} volumes but the arm has {most};"
            " use uniform"
        )
    asked = batch or params.batch
    assert asked != "auto", "whoever plans has found the batch before"
    batch = max(min(asked, most) // pieces * pieces, least)
    per_epoch = slices // batch
    unit = 1 if params.epochs is None else per_epoch
    steps = (params.epochs or params.steps or 0) * unit
    return Plan(slices, volumes or slices, batch, per_epoch, steps, unit, pieces)


def largest_batch(params: ContrastiveParams, slices: int, volumes: int) -> int:
    """The largest batch that an arm of ``slices`` from ``volumes`` can fill."""
    return volumes if params.sampler == "one-per-volume" else slices


P = TypeVar("P", bound=ContrastiveParams)


class Contrastive(Method[P], ABC):
    """A method that learns by comparing views: a subclass names its parameters and builds its network."""

    @abstractmethod
    def network(self, trunk: Trunk, plan: Plan) -> Network:
        """The module that is trained: it turns the views of a batch into a loss, and holds all the method's state."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """The views of each slice; two of the same kind by default. ``normalise`` is to be their last step."""
        from ctkit_models.augmentation import augmented_view

        return [augmented_view(self.params, normalise, self.params.size, self.params.scale)] * 2

    def unsettled(self, plan: Plan) -> int:
        """First steps whose losses say nothing of the network, beside those of the warm-up."""
        return 0

    def notes(self, plan: Plan) -> tuple[str, ...]:
        """What the user must know of how the parameters were fitted to the arm."""
        return (*self._batch_notes(plan), *self._part_notes(plan))

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
            reasons = [f"{arm}, and sampler one-per-volume takes no two of one"]
        if plan.pieces > 1:
            reasons.append(f"it is made of {plan.pieces} equal parts of at least 2")
        return (f"batch {change} from {asked} to {plan.batch}: {', and '.join(reasons)}",)

    def _part_notes(self, plan: Plan) -> tuple[str, ...]:
        parts = self.params.accumulate
        if parts == 1:
            return ()
        return (f"each step adds up {parts} parts of {plan.batch // parts} slices, which know nothing of each other",)

    def steps(self, slices: int, volumes: int) -> int | None:
        """Optimiser steps on ``slices`` of so many volumes, at most; None where a batch has to be found by trying."""
        if self.params.batch == "auto":
            return None
        try:
            return plan_run(self.params, slices, volumes=volumes).steps
        except DataError:  # too few, which the training itself will say
            return None

    def pretrain(self, job: Pretraining) -> Pretrained:
        """Train on the job's slices, from its last checkpoint where there is one, and write the backbone."""
        from ctkit_models.engine import pretrain

        return pretrain(self, job)

    @classmethod
    def export(cls, backbone: Path, form: ExportFormat, out: Path) -> Exported:
        """Write a backbone for torchvision, timm, ONNX or TorchScript, and compare its features."""
        from ctkit_models.exports import export_backbone

        return export_backbone(backbone, form, out)
