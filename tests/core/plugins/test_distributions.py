"""Which extra of a distribution has packages that are missing, by metadata alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a distribution without modules, as an installer would leave it on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.missing_extra.cache_clear()

    def make(name: str, *requirements: str, extras: tuple[str, ...] = ()) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-1.0.dist-info"
        folder.mkdir()
        lines = [f"Requires-Dist: {text}" for text in requirements] + [f"Provides-Extra: {extra}" for extra in extras]
        (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", *lines]))

    return make


@pytest.mark.parametrize(
    "requirement",
    [
        'nowhere>=1; extra == "net"',
        "nowhere (>=1) ; extra == 'net'",
        'numpy; extra == "net"\nRequires-Dist: nowhere; python_version >= "3" and extra == "net"',
        'deep[net]>=1,<3; extra == "net"',
        'numpy, deep [ other, net ]; extra == "net"'.replace("numpy, ", ""),
    ],
)
def test_a_package_that_an_extra_asks_for_and_that_is_not_there_is_missed(install: Install, requirement: str) -> None:
    install("deep", "nowhere; extra == 'net'", extras=("net", "other"))
    install("mine", "numpy", requirement, extras=("net",))
    assert plugins.missing_extra("mine", "net") == "mine[net]"


@pytest.mark.parametrize(
    "requirement",
    [
        'numpy>=99; extra == "net"',  # versions are pip's matter
        'NumPy; extra == "net"',
        'nowhere; extra == "other"',
        'nowhere; sys_platform == "plan9" and extra == "net"',
        "nowhere; python_version < '3'",
        'deep; extra == "net"',
        'deep[other]; extra == "net"',
    ],
)
def test_an_extra_whose_packages_are_there_is_whole(install: Install, requirement: str) -> None:
    install("deep", "nowhere; extra == 'net'", extras=("net", "other"))
    install("mine", requirement, extras=("net", "other"))
    assert plugins.missing_extra("mine", "net") == ""


def test_an_extra_that_the_distribution_lacks_is_one_of_ctkit_ssl(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ctkit.plugins.distributions.DISTRIBUTION", "of-the-core")
    install("of-the-core", "nowhere; extra == 'train'", extras=("train",))
    install("mine", "numpy")
    assert plugins.missing_extra("mine", "train") == "of-the-core[train]"
    assert plugins.missing_extra("mine", "tarin") == ""
    assert plugins.missing_extra("mine", "") == ""
