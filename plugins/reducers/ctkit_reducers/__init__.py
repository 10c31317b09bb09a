"""The built-in ways to choose slices, announced to ctkit."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_reducers() -> Sequence[Spec]:
    """Announce the reducers; each is imported when a pipeline asks for it."""
    return (
        Spec("all", "keep every slice: the unreduced arm", "ctkit_reducers.controls:All"),
        Spec("every-n", "keep every n-th slice of a volume", "ctkit_reducers.controls:EveryN"),
        Spec("random", "keep a random share: the control of equal size", "ctkit_reducers.controls:Random"),
        Spec("hash", "drop slices whose perceptual hash is near an earlier one's", "ctkit_reducers.hash:Hash"),
        Spec("ssim", "drop slices structurally similar to an earlier one of their volume", "ctkit_reducers.ssim:Ssim"),
        Spec(
            "mutual-information",
            "drop slices with high mutual information with an earlier one of their volume",
            "ctkit_reducers.mutual_information:MutualInformation",
        ),
        Spec("entropy", "drop slices with little information, such as air", "ctkit_reducers.entropy:Entropy"),
        Spec(
            "embedding",
            "drop near-duplicates by features of a network",
            "ctkit_reducers.embedding:Embedding",
            requires="train",
        ),
        Spec(
            "k-center",
            "keep slices that cover all others, by features of a network",
            "ctkit_reducers.k_center:KCenter",
            requires="train",
        ),
        Spec(
            "semdedup",
            "drop near-duplicates within clusters of embeddings",
            "ctkit_reducers.semdedup:SemDedup",
            requires="train",
        ),
    )
