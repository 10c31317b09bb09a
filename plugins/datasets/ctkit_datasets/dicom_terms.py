"""Texts of DICOM headers that may be told: those of closed lists and patterns. Any other text might name somebody."""

from __future__ import annotations

import re

OTHER = "other"

#: Values of Modality, retired ones too (PS3.3 section C.7.3.1.1.1).
_MODALITIES = re.compile(
    r"AR|AS|ASMT|AU|BDUS|BI|BMD|CD|CF|CFM|CP|CR|CS|CT|CTPROTOCOL|DD|DF|DG|DM|DMS|DOC|DS|DX|EC|ECG|EEG|EMG|EOG"
    r"|EPS|ES|FA|FID|FS|GM|HC|HD|IO|IOL|IVOCT|IVUS|KER|KO|LEN|LP|LS|M3D|MA|MG|MR|MS|NM|OAM|OCT|OP|OPM|OPR|OPT"
    r"|OPTBSV|OPTENF|OPV|OSS|OT|PA|PLAN|POS|PR|PT|PX|REG|RESP|RF|RG|RTDOSE|RTIMAGE|RTINTENT|RTPLAN|RTRAD|RTRECORD"
    r"|RTSEGANN|RTSTRUCT|RWV|SEG|SM|SMR|SR|SRF|ST|STAIN|TEXTUREMAP|TG|US|VA|VF|VM|XA|XAPROTOCOL|XC"
)
_MANUFACTURERS = re.compile(
    r"(SHANGHAI )?(ACCURAY|AGFA|ANALOGIC|ANKE|CANON|CARESTREAM|CTKIT|ELEKTA|ELSCINT|FUJIFILM|GE|GENERAL ELECTRIC"
    r"|HITACHI|IMATRON|KODAK|MARCONI|MEDISO|MEDTRONIC|MINFOUND|NEUROLOGICA|NEUSOFT|PHILIPS|PICKER|PLANMECA|SAMSUNG"
    r"|SHIMADZU|SIEMENS|SINOVISION|TOSHIBA|UIH|UNITED IMAGING|VAREX|VARIAN|XORAN)"
    r"( (AG|CO|CORP|CORPORATION|ELECTRONICS|GMBH|HEALTHCARE|HEALTHINEERS|IMAGING|INC|LTD|MANUFACTURING|MEC|MEDICAL"
    r"|MEDICO|NV|ONCOLOGY|PHANTOM|SYSTEMS?|TECHNOLOGIES|TECHNOLOGY))*"
)
_KERNEL = re.compile(
    r"((B[DFLPRSV]?|H[CDPRSV]?|Q[R]?|S[A]?|T[R]?|U[BR]?|ER|VB)\d{2}[DFHIMSU]?|[DIJK]\d{2}[FHMS])( \d)?"  # Siemens
    r"|F[CL]\d{2}(-\w)?"  # Canon: FC08, FL03
    r"|[A-FLUY]|[CEUXY][A-D]|L[AB]|FL|XCA|XCB|XCC|IQON|BRAIN[ _]?(STANDARD|SHARP|SMOOTH)"  # Philips: B, YA, UB
    r"|(HD ?)?(STANDARD|STND|STD|SOFT|LUNG|BONE|DETAIL|EDGE|ULTRA|CHEST|CHST|ROUTINE)( ?PLUS|[+])?"  # GE
    r"|[BHC]_[V]?(SOFT|SHARP|SMOOTH|STANDARD)(_[A-Z])?"  # United Imaging: B_SOFT_B
    r"|BODY|HEAD|BRAIN|CARDIAC|SHARP|SMOOTH|MEDIUM|NORMAL",
    re.IGNORECASE,
)
_SYNTAX = re.compile(r"1\.2\.840\.(10008\.1\.2|113619\.5)(\.\d{1,3}){0,3}")  # of the standard, and GE's own


def known_kernel(text: str) -> str:
    r"""Return a convolution kernel as a scanner names it, "other" for what none would write, "" for nothing.

    >>> known_kernel("Br38f\\3"), known_kernel("I30f 3"), known_kernel("Jane Doe")
    ('Br38f', 'I30f 3', 'other')
    """
    name = text.partition("\\")[0].strip()
    return name if not name or _KERNEL.fullmatch(name) else OTHER


def known_manufacturer(text: str) -> str:
    """Return a manufacturer as the header spells it where it is known as one of CT scanners, "other" for any other.

    >>> known_manufacturer("TOSHIBA_MEC"), known_manufacturer("Siemens, Jane Doe")
    ('TOSHIBA_MEC', 'other')
    """
    words = " ".join(re.findall(r"[^\s_.,&/()-]+", text.upper()))
    return text if not words or _MANUFACTURERS.fullmatch(words) else OTHER


def known_modality(code: str) -> str:
    """Return a modality that the standard defines, or "unknown"; "other" for any other code."""
    return code if code == "unknown" or _MODALITIES.fullmatch(code) else OTHER


def known_syntax(uid: str) -> str:
    """Return a transfer syntax that may be one of the standard's or of a vendor's; numbers may name somebody too."""
    return uid if _SYNTAX.fullmatch(uid) else "of a damaged name"
