"""Data: what a start of a run knows of its slices and of what is made of them; it grows from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ctkit.slices import Catalogue, Shard, Table
from ctkit.stages.jobs import Evaluated, Job
from ctkit.stages.left_out import LeftOut
from ctkit.stages.readings import Reading
from ctkit.stages.selected import Selections

Shards = Mapping[int, Shard]  #: by number of the volume


@dataclass(frozen=True)
class Data:
    """What the stages hand on. Each returns one that holds its own result too; until then that part is empty."""

    # scan
    address: str  #: of the scan: the data set's fingerprint
    catalogue: Catalogue
    skipped: LeftOut
    # describe
    readings: Sequence[Reading] = ()  #: of each volume, in the catalogue's order
    # select
    table: Table = field(default_factory=Table.empty)
    selections: Selections = field(default_factory=dict)
    jobs: tuple[Job, ...] = ()  #: the backbones that the selections and the pipeline ask for
    evaluations: tuple[Evaluated, ...] = ()  #: the evaluations that these and the pipeline ask for
    # materialise
    shards: Shards = field(default_factory=dict)
    # pretrain
    backbones: tuple[Job, ...] = ()  #: the jobs that have a backbone
    # evaluate
    predictions: tuple[Evaluated, ...] = ()  #: the evaluations that have predictions
