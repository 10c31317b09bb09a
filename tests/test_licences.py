"""Everything that an installation brings is under a permissive licence, by its own metadata."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

from requirements import brought_by

EXTRAS = ("train", "dask", "timm", "get", "onnx")  # mlflow and wandb, gpu: where they are installed
PERMISSIVE = re.compile(
    r"\b(MIT|MIT-0|MIT-CMU|HPND|BSD|0BSD|Apache|Apache-2\.0|ISC|PSF|Python Software Foundation|Unlicense|Zlib|CC0|MPL|"
    r"Mozilla Public License)\b",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(r"\b(A?GPL|LGPL|Affero|General Public|non-?commercial|CC.BY.NC|SSPL|BUSL)", re.IGNORECASE)
#: Under terms of their own, which allow the use and the copies that pip makes: CUDA's libraries, which torch brings.
CUDA = re.compile(r"^(nvidia-|cuda-)")


def licence(name: str) -> str:
    """What a distribution says of its licence: expression, classifiers, and the head of a text."""
    facts = metadata.metadata(name)
    classifiers = [text for text in facts.get_all("Classifier") or [] if text.startswith("License")]
    head = " ".join((facts.get("License") or "").split())[:300]
    return " | ".join(filter(None, [facts.get("License-Expression"), *classifiers, head]))


def brought() -> set[str]:
    extras = [*EXTRAS, *(extra for extra in ("mlflow", "wandb", "gpu") if _is_installed(extra))]
    return brought_by([f"ctkit-ssl[{','.join(extras)}]"]) - {"ctkit-ssl"}


def _is_installed(extra: str) -> bool:
    library = {"mlflow": "mlflow-skinny", "wandb": "wandb", "gpu": "nvidia-ml-py"}[extra]
    return any(found.metadata["Name"] == library for found in metadata.distributions(name=library))


@pytest.mark.parametrize("name", sorted(brought()))
def test_what_an_installation_brings_is_permissive(name: str) -> None:
    said = licence(name)
    if not CUDA.match(name):
        assert PERMISSIVE.search(said), f"{name} says of its licence: {said!r}"
        # "MPL-2.0 AND MIT" and alike are fine; a choice ("OR") with a permissive part is as well
        assert not FORBIDDEN.search(said) or " OR " in said, f"{name} says of its licence: {said!r}"


def test_a_licence_that_is_not_permissive_would_be_found(tmp_path: Path) -> None:
    for text in ("GPL-3.0-only", "GNU Affero General Public License v3", "CC BY-NC 4.0", "for non-commercial use"):
        assert FORBIDDEN.search(text) or not PERMISSIVE.search(text)
