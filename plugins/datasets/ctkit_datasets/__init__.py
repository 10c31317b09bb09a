"""Sources of CT volumes that come with ctkit."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_datasets() -> Sequence[Spec]:
    """Announce the data sets; their modules are imported on first use."""
    return (
        Spec("lidc-idri", "LIDC-IDRI as TCIA delivers it: one volume a CT series", "ctkit_datasets.lidc_idri:LidcIdri"),
        Spec("phantom", "synthetic CT of bodies that vary, with lesions", "ctkit_datasets.phantom:Phantom"),
        Spec("dicom", "any folder tree of DICOM files: one volume a CT series", "ctkit_datasets.dicom:Dicom"),
    )
