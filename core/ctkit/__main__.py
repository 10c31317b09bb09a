"""``python -m ctkit`` is the ``ctkit`` command."""

from ctkit.cli import main

main()
