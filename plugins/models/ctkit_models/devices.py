"""Whether torch can use the GPU that is there."""

from __future__ import annotations

import warnings

import torch


def unusable() -> str | None:
    """Why torch cannot use the GPU that is there, and what to do; None where it can."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch tells of an old driver at length, and how it was built says the same
        if torch.cuda.is_available():
            return None
    built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    return (
        f"there is a GPU but this torch cannot use it, as it is built {built}; install one built for the CUDA that the"
        " GPU's driver has"
    )
