"""``ctkit new-plugin``: a package with a working plugin of any kind, its tests and its README, to begin with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import click

from ctkit import plugins
from ctkit.errors import RequestError
from ctkit.files import write_text
from ctkit.hookspecs import Kind

#: What the plugin of each kind does as it is written, and how a pipeline file uses it.
_SUMMARIES: dict[Kind, str] = {
    "dataset": "reads volumes that were saved as NumPy arrays",
    "reducer": "drops slices of about the same brightness as a kept one",
    "method": "pre-trains with Barlow Twins (Zbontar et al. 2021)",
    "task": "takes images and labels from a table",
    "protocol": "compares features with the mean of each class",
    "tracker": "writes the numbers of a run as JSON lines",
}
_USAGE: dict[Kind, str] = {
    "dataset": '[dataset]\nuse = "{}"\nroot = "path/to/arrays"',
    "reducer": '[[reduce]]\nuse = "{}"\nthreshold = 4',
    "method": '[[pretrain]]\nuse = "{}"\nepochs = 100',
    "task": '[[task]]\nuse = "{}"\nroot = "path/to/images"\nprotocol = "linear"',
    "protocol": '[[task]]\nuse = "image-folder"\nroot = "path/to/images"\nprotocol = "{}"',
    "tracker": '[[track]]\nuse = "{}"\nevery = 10',
}
_MORE: dict[Kind, tuple[str, ...]] = {"method": ("network",)}  #: modules beside the one named after the kind


@click.command("new-plugin")
@click.argument("kind", type=click.Choice(get_args(Kind)))
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path), help="A new or empty folder, instead of ctkit-NAME.")
@click.option(
    "--single-file", is_flag=True, help="Write only NAME.py, which needs no installation, into --out or here."
)
def new_plugin(kind: Kind, name: str, out: Path | None, single_file: bool) -> None:
    """Write a package with a working plugin of a KIND called NAME, and its tests, as a template for your own."""
    taken = [entry.distribution for entry in plugins.load().of_kind(kind) if entry.name == name]
    if taken:
        raise RequestError(f"there is already a {kind} {name!r}, of {taken[0]}; choose another name")
    folder = out or Path("." if single_file else f"ctkit-{name}")
    for path in write_plugin(kind, name, folder, single_file=single_file):
        click.echo(path)
    if single_file:
        click.echo(
            f'next: ctkit check-plugin {path}; in a pipeline file beside it: use = "./{path.name}:{_class(name)}"'
        )
        return
    click.echo(f"next: pip install --editable {folder}, then: pytest {folder}")


def _class(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("-"))


def write_plugin(kind: Kind, name: str, out: Path, *, single_file: bool = False) -> list[Path]:
    """Write the package into a new or empty folder, or a ``single_file`` into any, and return its files.

    Raises ``RequestError`` where the name is none for a plugin, or what would be written over is there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise RequestError(f"a plugin's name is lower-case words joined by hyphens, such as my-hash, but is {name!r}")
    file_name = f"{name.replace('-', '_')}.py"
    if single_file and (out / file_name).exists():
        raise RequestError(f"{out / file_name} exists; choose another name, or another folder with --out")
    if not single_file and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out} is not empty; give another folder with --out")
    package = f"ctkit_{name.replace('-', '_')}"
    templates = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": "__init__.py",
        f"{package}/py.typed": None,
        **{f"{package}/{module}.py": f"{module}.py" for module in (kind, *_MORE.get(kind, ()))},
        f"tests/test_{package}.py": f"test_{kind}.py",
    }
    templates = {file_name: f"{kind}.py"} if single_file else templates
    facts = {
        "kind": kind,
        "name": name,
        "distribution": f"ctkit-{name}",
        "package": package,
        "class": _class(name),
        "single_file": single_file,
        "summary": _SUMMARIES[kind],
        "usage": _USAGE[kind].format(name),
    }
    environment = Environment(  # noqa: S701  # Python and TOML, not HTML
        loader=PackageLoader("ctkit.testing", "plugin_templates"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    for file, template in templates.items():
        text = environment.get_template(f"{template}.j2").render(facts) if template else ""
        write_text(out / file, text)
    return [out / file for file in templates]
