"""Sources of CT volumes that come with ctkit."""

from __future__ import annotations

from collections.abc import Sequence

from ctkit.hookspecs import Spec, hookimpl


@hookimpl
def ctkit_register_datasets() -> Sequence[Spec]:
    """Announce the data sets; their modules are imported on first use."""
    return (
        Spec(
            "lidc-idri", "LIDC-IDRI as TCIA delivers it: one volume per CT series", "ctkit_datasets.lidc_idri:LidcIdri"
        ),
        Spec("phantom", "synthetic CT of varied bodies, with lesions", "ctkit_datasets.phantom:Phantom"),
        Spec("pet-ct", "FDG-PET-CT-Lesions, as DICOM or as its NIfTI tree: the CT", "ctkit_datasets.pet_ct:PetCt"),
        Spec("dicom", "any folder tree of DICOM files: one volume per CT series", "ctkit_datasets.dicom:Dicom"),
        Spec("nifti", "any folder tree of NIfTI files: one volume per file", "ctkit_datasets.nifti:Nifti"),
        Spec(
            "metaimage",
            "any folder tree of MetaImage and NRRD files: one volume per file",
            "ctkit_datasets.metaimage:MetaImage",
        ),
        Spec("luna16", "LUNA16: LIDC-IDRI as MetaImage, with its tables of nodules", "ctkit_datasets.luna16:Luna16"),
        Spec("decathlon", "CT sets of the Medical Segmentation Decathlon", "ctkit_datasets.decathlon:Decathlon"),
        Spec("images", "folders of PNG, JPEG and TIFF slices, grouped by their names", "ctkit_datasets.images:Images"),
    )


@hookimpl
def ctkit_register_tasks() -> Sequence[Spec]:
    """Announce the task that reads scans as the data sets do."""
    what = "slices and masks of CT sets of the Medical Segmentation Decathlon"
    return (Spec("decathlon", what, "ctkit_datasets.decathlon_task:DecathlonTask"),)
