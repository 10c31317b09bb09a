"""Which extra of a distribution has packages that are missing, by metadata alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctkit import plugins
from ctkit.hookspecs import VERSION
from ctkit.plugins.distributions import made_for

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make a distribution without modules, as an installer would leave it on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.missing_extra.cache_clear()
    made_for.cache_clear()

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


def test_extras_that_ask_for_each_other_in_a_circle_are_whole_but_for_what_is_missing(install: Install) -> None:
    install("one", "two[b]; extra == 'a'", "one[a]; extra == 'all'", extras=("a", "all"))
    install("two", "one[a]; extra == 'b'", "nowhere; extra == 'c'", "two[b,c]; extra == 'd'", extras=("b", "c", "d"))
    assert [plugins.missing_extra("one", extra) for extra in ("a", "all")] == ["", ""]
    assert [plugins.missing_extra("two", extra) for extra in ("b", "d")] == ["", "two[d]"]


@pytest.mark.parametrize(
    "damaged",
    ["nowhere; extra ===== 'net'", "nowhere; extra", "; extra == 'net'", ">=; extra == 'net' and", "\udcff[;"],
)
def test_damaged_requirements_ask_for_nothing(install: Install, damaged: str) -> None:
    install("mine", damaged.encode("ascii", "replace").decode(), extras=("net",))
    assert plugins.missing_extra("mine", "net") == ""
    assert made_for("mine") == ""


@pytest.mark.parametrize(
    "requirement",
    ["ctkit-ssl>=2.0", "CTKIT_SSL (>=2.0)", "ctkit-ssl[train] >= 2.0", 'ctkit-ssl>=2.0; python_version >= "3"'],
)
def test_other_versions_of_ctkit_that_a_distribution_is_made_for_are_said(install: Install, requirement: str) -> None:
    install("mine", "numpy>=99", requirement)
    assert made_for("mine").lower().replace("_", "-") == (
        f"made for ctkit-ssl >=2.0, this is {VERSION}: install versions that fit"
    )


@pytest.mark.parametrize(
    "requirement",
    [
        "ctkit-ssl",
        "ctkit-ssl<2",
        f"ctkit-ssl=={VERSION}",
        "ctkit-ssl-extras>=2.0",
        "ctkit-ssl>=banana",
        'ctkit-ssl>=2.0; extra == "new"',
        'ctkit-ssl>=2.0; python_version < "3"',
    ],
)
def test_a_distribution_that_asks_for_no_other_version_fits(install: Install, requirement: str) -> None:
    install("mine", requirement, extras=("new",))
    assert made_for("mine") == made_for("nowhere") == ""
