"""Starting ctkit is cheap: the command line and the built-in plugin modules import nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "torchvision",
    "pytorch_lightning",
    "lightly",
    "monai",
    "matplotlib",
    "sklearn",
    "skimage",
    "tensorboard",
}


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["list-plugins"], ["list-plugins", "--json"]], ids=" ".join
)
def test_a_light_command_imports_nothing_heavy(arguments):
    code = f"""
import atexit, sys
atexit.register(lambda: print("imported:", *sys.modules, file=sys.stderr))
from ctkit.cli import main
sys.argv = ["ctkit", *{arguments}]
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = set(done.stderr.rpartition("imported:")[2].split())
    assert "ctkit.cli" in imported
    assert imported & HEAVY == set()


@pytest.mark.parametrize(
    "package",
    [
        *("ctkit_datasets", "ctkit_downloads", "ctkit_exporters", "ctkit_models", "ctkit_reducers", "ctkit_reports"),
        *("ctkit_tasks", "ctkit_trackers", "ctkit_trackers.tensorboard"),
    ],
)
def test_a_built_in_register_module_imports_the_hook_specifications_alone(package):
    code = (
        f"import sys, ctkit.hookspecs; before = set(sys.modules); import {package}; print(*set(sys.modules) - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {package, package.partition(".")[0]}
