"""What plugins implement, and the things they exchange with the core. Read this page before writing a plugin.

Six kinds of plugin, each one class with a frozen parameter model, found through ``ctkit.hookspecs``:

    ========  =====================================  =================================================================
    kind      turns                                  by implementing
    ========  =====================================  =================================================================
    Dataset   source files into volumes              ``files`` ``inspect`` ``arrange`` (headers only) and ``read``
    Reducer   slices into evidence, that into a      ``describe`` (only where it looks at pixels) and ``select``
              decision
    Method    an arm's slices into a backbone        ``pretrain``; contrastive ones: ``ctkit_models.Contrastive``
    Task      a labelled image set into splits       ``classes`` ``splits`` ``image``
    Protocol  a backbone and a task into             ``predict`` ``scores`` ``compare``
              predictions and scores
    Tracker   what a run measures into a record      ``start`` ``metric`` ``end``
    ========  =====================================  =================================================================

The core owns everything else: names, seeds, caching, parallel work, budgets, composition, files and reports. A plugin
is built once per process with its validated parameters and holds no other state (a tracker does, for one run);
``version`` is raised when its results change, which is what invalidates cached results.
What is on this page was added in 0.1, unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctkit.contracts.dataset import (
    Dataset,
    Pixels,
    Skipped,
    SliceFormat,
    SourceFile,
    Volume,
    VolumeFacts,
    refuse_without_sources,
)
from ctkit.contracts.judge import image_of, mask_of
from ctkit.contracts.method import (
    ChildProcess,
    Exported,
    ExportFormat,
    Method,
    Pretrained,
    Pretraining,
    Rows,
    StartChild,
)
from ctkit.contracts.params import Bools, Floats, InputPath, Ints, NoParams, P, Params, Plugin
from ctkit.contracts.protocol import (
    PRETRAINING,
    Difference,
    Evaluation,
    Leak,
    Mistake,
    Predictions,
    Protocol,
    Score,
    main_metric,
    worst_mistakes,
)
from ctkit.contracts.reducer import Decision, Group, Knob, Reducer, Slices, knob
from ctkit.contracts.task import Split, Stack, Task
from ctkit.contracts.tracker import Tracker

if TYPE_CHECKING:
    from ctkit.hookspecs import Kind

__all__ = [
    "BASES", "PRETRAINING", "Bools", "ChildProcess", "Dataset", "Decision", "Difference", "Evaluation",
    "ExportFormat", "Exported", "Floats", "Group", "InputPath", "Ints", "Knob", "Leak", "Method", "Mistake",
    "NoParams", "P", "Params", "Pixels", "Plugin", "Predictions", "Pretrained", "Pretraining", "Protocol", "Reducer",
    "Rows", "Score", "Skipped", "SliceFormat", "Slices", "SourceFile", "Split", "Stack", "StartChild", "Task",
    "Tracker", "Volume", "VolumeFacts", "image_of", "knob", "main_metric", "mask_of", "refuse_without_sources",
    "worst_mistakes",
]  # fmt: skip

BASES: Mapping[Kind, type[Plugin[Any]]] = {
    "dataset": Dataset,
    "reducer": Reducer,
    "method": Method,
    "task": Task,
    "protocol": Protocol,
    "tracker": Tracker,
}
"""The class that each kind of plugin derives from."""
