from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest

import ctkit_tasks
from ctkit.contracts import Plugin, Protocol, Task
from ctkit.hookspecs import Spec


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        *((spec, Task) for spec in ctkit_tasks.ctkit_register_tasks()),
        *((spec, Protocol) for spec in ctkit_tasks.ctkit_register_protocols()),
    ],
    ids=lambda value: value.name if isinstance(value, Spec) else "",
)
def test_every_announced_class_is_there_with_described_parameters(spec: Spec, kind: type[Plugin]) -> None:
    module, name = spec.target.split(":")
    plugin = getattr(import_module(module), name)
    assert issubclass(plugin, kind)
    assert all(field.description for field in plugin.params_type.model_fields.values())
    assert plugin.params_type.__name__ == f"{name}Params"


def test_announcing_imports_nothing_heavy() -> None:
    code = (
        "import sys, ctkit_tasks; ctkit_tasks.ctkit_register_tasks(); ctkit_tasks.ctkit_register_protocols();"
        "assert not {'torch', 'monai', 'sklearn', 'numpy', 'PIL'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
