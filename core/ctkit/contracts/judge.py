"""Who holds a plugin to its promises: what is wrong is said in its name, with what must be, what is, and what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctkit.contracts.params import Params, Plugin
from ctkit.contracts.task import Task
from ctkit.errors import PASSING, CtkitError, PluginError

_log = logging.getLogger("ctkit.promises")


@dataclass(frozen=True)
class Judge:
    """Holds one plugin to its promises."""

    name: str  #: of the plugin, for messages
    error: Callable[[str], Exception] = CtkitError  #: what a broken promise raises

    def must(self, holds: object, message: str) -> None:
        """Raise unless a promise holds: "this must be so, but that is found; do this"."""
        if not holds:
            raise self.error(f"{self.name}: {message}")

    @contextmanager
    def keeping(self, promise: str, advice: str, *passing: type[Exception]) -> Iterator[None]:
        """Raise where the block raises, which breaks ``promise``, unless it raises ``passing``; say what to do."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, (*PASSING, *passing)):
                raise
            kind = type(error).__name__
            words = f"{kind} was raised{PluginError.words_of(error).removeprefix(kind)}"
            raise self.error(f"{self.name}: {promise}, but {words}; {advice}") from error

    @contextmanager
    def calling(self, function: str, *passing: type[Exception]) -> Iterator[None]:
        """Name the plugin in what a call of it raises; what is meant for the user, or ``passing``, passes as it is."""
        try:
            yield
        except BaseException as error:  # a stranger's plugin may raise anything
            if isinstance(error, (CtkitError, *PASSING, *passing)):
                raise
            _log.debug("%s failed in %s", self.name, function, exc_info=True)
            raise self.error(f"{self.name} failed in {function}: {PluginError.words_of(error)}") from error


def check_parameters_stored(judge: Judge, built: Plugin[Any], params: Params) -> None:
    """Check that a plugin's constructor kept the parameters it was given."""
    found = getattr(built, "params", None)
    wrong = "is None" if found is None else "holds others"
    judge.must(
        found == params,
        f"the constructor must store its parameters unchanged, but self.params {wrong};"
        " call super().__init__(params), and store derived values in other attributes",
    )


def image_of(task: Task[Any], split: str, number: int) -> NDArray[np.uint8]:
    """Read an image of a task, checked: (height, width) or (height, width, 3). Raises ``CtkitError``."""
    judge = Judge(f"task {type(task).__name__}")
    with judge.calling("image"):
        image = task.image(split, number)
    check_image(judge, image, f"image {number} of {split}")
    return image


def mask_of(task: Task[Any], split: str, number: int) -> NDArray[np.uint8]:
    """Read the mask of an image of a task, checked: (height, width) of class numbers. Raises ``CtkitError``."""
    judge = Judge(f"task {type(task).__name__}")
    with judge.calling("mask"):
        mask = task.mask(split, number)
    check_mask(judge, mask, len(task.classes), f"that of image {number} of {split}")
    return mask


def check_mask(judge: Judge, mask: NDArray[np.uint8], classes: int, which: str) -> None:
    """Check one mask of a task with so many classes; ``which`` it is."""
    judge.must(
        isinstance(mask, np.ndarray) and mask.dtype == np.uint8 and mask.ndim == 2 and mask.size > 0,
        f"a mask must be (height, width) uint8, and not empty, but {which} is {form_of(mask)}; convert it",
    )
    judge.must(
        mask.max() < classes,
        f"a mask must hold class numbers, 0..{classes - 1}, but {which} goes to {mask.max()}; use those of `classes`",
    )


def check_image(judge: Judge, image: NDArray[np.uint8], which: str = "it") -> None:
    """Check one image of a task; ``which`` it is."""
    judge.must(
        isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size > 0,
        f"an image must be uint8, and not empty, but {which} is {form_of(image)}; scale to 0..255 and convert",
    )
    judge.must(
        image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3),
        "an image must be (height, width) or (height, width, 3),"
        f" but {which} is {image.shape}; remove transparency, and put channels last",
    )


def form_of(value: object) -> str:
    """Shape and type of an array, and of what is none its kind, for messages."""
    return f"{value.shape} {_name(value.dtype)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"


_name = lru_cache(str)  # numpy takes long to name a type
