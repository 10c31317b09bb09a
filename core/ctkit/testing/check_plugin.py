"""``ctkit check-plugin``: the conformance checks of plugins, installed or in a file, each shown by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from ctkit import plugins
from ctkit.contracts import Params
from ctkit.errors import ConfigError, CtkitError, PluginError, nearest
from ctkit.hookspecs import DISTRIBUTION, Spec
from ctkit.pipeline_file import validated
from ctkit.plugins import KINDS, Entry
from ctkit.runner import pipeline_text
from ctkit.testing import NonConformance, check_distribution, check_spec, checks_of

#: What makes a plugin quick that has such parameters, where nobody says otherwise.
_QUICK = {"backbone": "resnet18", "steps": 4, "size": 32, "batch": 8, "warmup": 0, "checkpoint_minutes": 0}
_QUICK_KINDS = ("method", "protocol")


@click.command("check-plugin")
@click.argument("name", metavar="NAME|PATH")
@click.option("-p", "parameters", multiple=True, metavar="KEY=VALUE", help="Parameter to check it with: root=data.")
def check_plugin(name: str, parameters: tuple[str, ...]) -> None:
    """Check that a plugin keeps its contract: the plugin or distribution NAME, or those in a file, PATH[:CLASS].

    Each check is shown, and the exit code is 1 if one fails. Methods and protocols are checked with a small network and
    few steps.
    """
    done = [outcome for entry in _entries(name) for outcome in _outcomes(entry, parameters)]
    if failed := done.count(False):
        raise CtkitError(f"{failed} of {len(done)} checks failed")


def _entries(name: str) -> list[Entry]:
    path, _, class_name = name.rpartition(":")
    if name.endswith(".py") or path.endswith(".py"):
        return plugins.in_file(Path(name)) if name.endswith(".py") else plugins.in_file(Path(path), class_name)
    known = [entry for entry in plugins.load().entries if entry.kind in (*KINDS, "unknown")]
    found = [entry for entry in known if name in (entry.name, entry.use, entry.distribution)]
    if not found:
        raise PluginError(f"there is no plugin {name!r}; {nearest(name, {entry.name for entry in known})}")
    return found


def _outcomes(entry: Entry, parameters: tuple[str, ...]) -> Iterator[bool]:
    """Say the outcome of each check; yield whether it passed. What fails for a reason that was said says no more."""
    click.echo(f"{entry.title} ({entry.version})")
    told: set[str] = set()
    for promise, check in _checks(entry, parameters):
        try:
            check()
        except (NonConformance, PluginError) as error:
            reason = " ".join(str(error).split())
            click.echo(f"  {'not checked' if reason in told else 'FAILED':<11}  {promise}")
            if reason not in told:
                click.echo(f"               {reason}")
                told.add(reason)
                yield False
        else:
            click.echo(f"  {'ok':<11}  {promise}")
            yield True


def _checks(entry: Entry, parameters: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield each check of a plugin with its promise."""
    if entry.status == "broken":
        yield "The plugin must load", entry.load
        return
    if not entry.source:
        spec = Spec(entry.name, entry.summary, entry.target)
        yield "It must be announced by a proper name and summary", partial(check_spec, spec, entry.kind)  # type: ignore[arg-type]  # a kind
        if entry.distribution != DISTRIBUTION:
            yield "Its distribution must announce what can be used", partial(check_distribution, entry.distribution)
    try:
        plugin = plugins.load_target(entry.target)
    except PluginError:
        yield "The plugin must load", entry.load
        return
    for check in checks_of(plugin, _params(entry, plugin, parameters)):
        yield check.promise, check


def _params(entry: Entry, plugin: type[Any], parameters: tuple[str, ...]) -> Params | None:
    """The parameters to check a plugin with; None for its defaults. Raises ``ConfigError`` where they are wrong."""
    fields = getattr(plugin.params_type, "model_fields", {})
    quick = {name: value for name, value in _QUICK.items() if name in fields and entry.kind in _QUICK_KINDS}
    document = pipeline_text.parameters(parameters, "-p")
    if not quick | document and not any(field.is_required() for field in fields.values()):
        return None
    found, mistakes = validated(plugin.params_type, quick | document, Path.cwd())
    if said := [f"-p {'.'.join(map(str, place))}: {message}" for place, message in mistakes]:
        raise ConfigError(*(f"{entry.title}: {one}" for one in said))
    if quick:
        click.echo(f"  with {', '.join(f'{name} = {value}' for name, value in (quick | document).items())}")
    return found
