"""What plugins of others import from ctkit: a name that comes or goes is a decision, not an accident."""

from __future__ import annotations

import importlib
import inspect

import pytest

PUBLIC = {
    "ctkit": """
        ArmFacts ComparisonRow Console CurveRow Pictures Place Query QueryRow Reduction RevisitedArm Run RunArm
        RunBackbone RunPredictions RunTraining ScoreRow Selection SelectionTable StepFacts VolumeRow
        __version__ complete_arms main open_run output_options quantities query redaction
        reduce rendering run
    """,
    "ctkit.contracts": """
        BASES Bools ChildProcess Dataset Decision Difference Evaluation ExportFormat Exported Floats Group InputPath
        Ints Knob Leak Method Mistake NoParams P PRETRAINING Params Pixels Plugin Predictions Pretrained Pretraining
        Protocol Reducer Rows Score Skipped SliceFormat Slices SourceFile Split Stack StartChild Task Tracker Volume
        VolumeFacts image_of knob main_metric mask_of refuse_without_sources worst_mistakes
    """,
    "ctkit.errors": """
        ConfigError CtkitError DataError LockedError PluginError RequestError StorageError TrainingError nearest
    """,
    "ctkit.hookspecs": """
        RunInfo Spec
        ctkit_register_commands ctkit_register_datasets ctkit_register_methods ctkit_register_protocols
        ctkit_register_reducers ctkit_register_tasks ctkit_register_trackers
        ctkit_check_backbone ctkit_check_device ctkit_check_run
        ctkit_open_backbone ctkit_open_slices
        ctkit_run_outputs
        ctkit_metric_logged ctkit_run_failed ctkit_run_finished ctkit_run_started ctkit_stage_finished
        ctkit_stage_started
    """,
    "ctkit.testing": """
        Check NonConformance check_dataset check_distribution check_method check_protocol check_reducer check_spec
        check_task check_tracker checks_of parametrize_with_checks
    """,
    "ctkit_models": """
        Contrastive ContrastiveParams Network Plan Trunk full_precision
    """,
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_the_public_names_of_a_module_are_these(name):
    module = importlib.import_module(name)
    assert sorted(getattr(module, "__all__", own_names(module))) == sorted(PUBLIC[name].split())


def own_names(module) -> list[str]:
    """Public classes and functions that are defined in the module."""
    return [
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
