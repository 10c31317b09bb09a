"""Barlow Twins for ctkit. This module is light: every ctkit command imports it, and torch comes with ``network``."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_methods() -> Sequence[Spec]:
    """Announce the method; ``use = "barlow-twins"`` in a pipeline file finds it."""
    summary = "features of two views agree one by one, and with no other (Zbontar et al. 2021)"
    return [Spec("barlow-twins", summary, "ctkit_barlow_twins.method:BarlowTwins", requires="train")]
