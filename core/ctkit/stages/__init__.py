"""The stages of a run, in the order of the data's way; each has one kind of thing in and one out."""

from __future__ import annotations

from typing import Literal, get_args

#: Where ``ctkit run --until`` may stop.
Stage = Literal["scan", "describe", "select", "materialise", "pretrain", "evaluate", "report"]
STAGES: tuple[Stage, ...] = get_args(Stage)
