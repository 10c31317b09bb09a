"""Multi-crop (Caron et al. 2020, arXiv 2006.09882): two large views of a slice, and small ones that cost little."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

from pydantic import Field

from ctkit_models.contrastive import Contrastive
from ctkit_models.parameters import ContrastiveParams, Share

if TYPE_CHECKING:
    from ctkit_models.views import Normalise, View

LocalViews = Annotated[int, Field(ge=0, description="small views of each slice beside the two large ones")]
LocalScale = Annotated[Share, Field(description="share of the slice's area that a small view shows, from and to")]


class MultiCropParams(ContrastiveParams):
    """What methods with small views let the user choose."""

    local_views: LocalViews = 0
    local_size: int | None = Field(
        None, ge=16, description="side of a small view, pixels; none: 3/7 of size, which makes 96 of 224"
    )
    local_scale: LocalScale = (0.1, 0.33)


P = TypeVar("P", bound=MultiCropParams)


class MultiCrop(Contrastive[P], ABC):
    """A contrastive method whose views are two large ones, followed by ``local_views`` small ones."""

    def views(self, normalise: Normalise) -> Sequence[View]:
        """Large views first."""
        from ctkit_models.views import augmented_view

        params = self.params
        local_size = params.local_size or round(params.size * 3 / 7)
        small = augmented_view(params, normalise, local_size, params.local_scale)
        return [*super().views(normalise), *[small] * params.local_views]
