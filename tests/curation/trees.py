"""Repositories to curate: drawn radiographs and trunks, and everything that is no image."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.data import get_testdata_file

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from tests.headers import edit

CANARY = "ZZPHI^CANARY"


def write_tree(root: Path) -> Path:
    """Radiographs as DICOM and as pictures, two CT series in mixed folders, bad files; names never tell the truth."""
    for number in range(4):
        folder = root / "xr" / f"p{number}"
        (path,) = write_radiograph_phantom(folder, rows=64, columns=56, seed=number, patient_name=CANARY)
        edit(path, PatientID=f"P{number // 2}", Manufacturer="Maker, Inc.", InstitutionName=CANARY)
    first = write_ct_phantom(root / "a-series", slices=5, rows=48, columns=48, patient_name=CANARY)
    second = write_ct_phantom(
        root / "b-series", slices=4, rows=48, columns=48, patient_name=CANARY, patient_id="Q", seed=1
    )
    for path in second:
        edit(path, SeriesInstanceUID="1.2.826.0.1.77", StudyInstanceUID="1.2.826.0.1.78")
    shutil.move(first[-1], root / "z-last-slice.png")
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 40), np.uint8)
    pictures = root / "pictures"
    pictures.mkdir()
    Image.fromarray(grey).save(pictures / "grey.dcm", "PNG")
    Image.fromarray(grey).save(pictures / "copy.tif", "TIFF")
    Image.fromarray(grey.astype(np.uint16) * 257).save(pictures / "deep.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(pictures / "rgb.webp", lossless=True)
    Image.fromarray(np.stack([grey, grey, 255 - grey], -1)).save(pictures / "colour.jpg")
    Image.fromarray(np.full((40, 40), 7, np.uint8)).save(pictures / "flat.png")
    (pictures / "cut.png").write_bytes((pictures / "grey.dcm").read_bytes()[:300])
    shutil.copy(root / "xr" / "p0" / "DX0001.dcm", root / "xr-copy")
    shutil.copy(str(get_testdata_file("MR_small.dcm", download=False)), root / "mr")
    (root / "notes.txt").write_text(f"about {CANARY}")
    (root / "empty").write_bytes(b"")
    return root
