"""Tasks and protocols that come with ctkit."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_tasks() -> Sequence[Spec]:
    """Announce the tasks; their modules are imported on first use."""
    return (
        Spec("covid-ct", "COVID CT Grand Challenge with its official splits", "ctkit_tasks.covid_ct:CovidCt"),
        Spec("organsmnist", "OrganSMNIST of MedMNIST v2: 11 organs", "ctkit_tasks.medmnist:OrganSMnist"),
        Spec("medmnist", "any 2-D set of MedMNIST v2 with one label per image", "ctkit_tasks.medmnist:MedMnist"),
        Spec("brain-hemorrhage", "head CT with hemorrhage and without", "ctkit_tasks.brain_hemorrhage:BrainHemorrhage"),
        Spec("image-folder", "any root/split/class/ tree of images", "ctkit_tasks.image_folder:ImageFolder"),
        Spec("phantom-lesions", "built-in phantom slices, some with a lesion", "ctkit_tasks.phantom:PhantomLesions"),
        Spec(
            "phantom-regions",
            "built-in phantom slices by region of the body, at any rotation",
            "ctkit_tasks.phantom:PhantomRegions",
        ),
        Spec(
            "phantom-organs",
            "built-in phantom volumes with masks of lungs, liver and lesions",
            "ctkit_tasks.phantom:PhantomOrgans",
        ),
    )


@hookimpl
def ctkit_register_protocols() -> Sequence[Spec]:
    """Announce the protocols; their modules are imported on first use."""
    spec = partial(Spec, requires="train")
    return (
        spec("finetune", "the backbone and a linear layer, trained as in the paper", "ctkit_tasks.finetune:Finetune"),
        spec("linear", "logistic regression on features of the frozen backbone", "ctkit_tasks.linear:Linear"),
        spec("segment", "the backbone and a U-shaped decoder, trained on masks", "ctkit_tasks.segment:Segment"),
        spec("knn", "nearest neighbours among features of the frozen backbone", "ctkit_tasks.knn:Knn"),
    )
