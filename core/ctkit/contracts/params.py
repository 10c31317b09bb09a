"""What every plugin is: a class with a frozen model of its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, model_serializer

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Params(BaseModel):
    """Base of a plugin's parameters: frozen, unknown keys refused. Give each field a type, bounds and a description.

    A parameter that changes no result (a filter that only chooses among volumes, how often to log) carries
    ``Field(..., json_schema_extra={"address": False})``; changing it then invalidates nothing that is cached. One of a
    reducer that ``select`` reads and ``describe`` does not carries ``{"describe": False}``: the evidence stays. One of
    a method that makes no step slower, such as their number, carries ``{"pace": False}``: the times of earlier
    trainings still tell how long one takes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @model_serializer(mode="wrap", when_used="json")
    def _in_order(self, plain: Callable[[Params], dict[str, Any]]) -> dict[str, Any]:
        """As JSON, with sets sorted: else each process would give one another order, and results another address."""
        sets = {name for name, value in self if isinstance(value, set | frozenset)}
        return {name: sorted(value, key=repr) if name in sets else value for name, value in plain(self).items()}


class NoParams(Params):
    """The parameters of a plugin that has none."""


def _refuse_escapes(path: Path) -> Path:
    if re.search(r"[\b\t\n\f\r]", str(path)):
        raise ValueError(
            "must be written '...' or with /: in \"...\" a backslash and a letter make a tab or line break"
        )
    return path


def _resolve(path: Path, info: ValidationInfo) -> Path:
    base: Path = (info.context or {}).get("base", Path())
    found = (base / path.expanduser()).absolute()
    if not found.exists():
        raise ValueError(f"no such file or folder: {found}")
    return found


#: A path as somebody wrote it, which holds no tab or line break: TOML makes them of \t and \n between double quotes.
WrittenPath = Annotated[Path, AfterValidator(_refuse_escapes)]
#: A file or folder that must exist; in a pipeline file it is relative to that file.
InputPath = Annotated[WrittenPath, AfterValidator(_resolve)]

P = TypeVar("P", bound=Params)


class Plugin(Generic[P]):
    """Base of all kinds. ``class Mine(Reducer[MyParams])`` makes ``self.params`` a ``MyParams``."""

    version: ClassVar[int] = 1
    params_type: ClassVar[type[Params]] = NoParams

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in vars(cls).get("__orig_bases__", ()):
            origin, arguments = get_origin(base), get_args(base)
            models = [one for one in arguments if isinstance(one, type) and issubclass(one, Params)]
            given = [one for one in arguments if one is not Any and not isinstance(one, TypeVar)]
            if models:
                cls.params_type = models[0]
            elif given and isinstance(origin, type) and issubclass(origin, Plugin):
                name = getattr(given[0], "__name__", given[0])
                raise TypeError(
                    f"parameters must derive from ctkit.contracts.Params but {name} of {cls.__name__}"
                    " does not; derive it from Params"
                )

    def __init__(self, params: P | None = None) -> None:
        self.params: P = cast(P, self.params_type()) if params is None else params

    @property
    def root(self) -> Path | None:
        """Folder that paths of a data set's or a task's files are relative to; None for synthetic data."""
        root = getattr(self.params, "root", None)
        return root if isinstance(root, Path) else None

    def check(self, device: str | None) -> Iterable[str]:
        """Say what would keep the plugin from its work, a line each: what is missing, where, and what to do.

        Asked before a run starts anything, and by ``ctkit validate``, once ``root`` is known to hold something; a
        ``CtkitError`` that is raised is a line too. Be cheap: decode nothing, and ask the network for seconds, only for
        what is not on this machine. ``device`` is "cpu" or "cuda"; None where it is not known yet.
        """
        return ()
