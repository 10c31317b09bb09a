"""The length of a run: batch and steps, fitted to an arm. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from ctkit.errors import DataError
from ctkit_models.parameters import ContrastiveParams


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
            f"contrastive training{in_parts} needs at least {least} slices but the arm has {slices}; keep more slices"
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
