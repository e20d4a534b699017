"""What a person opens: images that can be analysed, where their files lie, and why others were left out."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from anomap.dicom.files import is_zip, opened
from anomap.dicom.read import read_study
from anomap.types import ImageSeries


@dataclass(frozen=True, slots=True)
class Images:
    """An opened input.

    Attributes:
        series: What can be analysed: CT series and single radiographs.
        files: SOP Instance UID -> file.
        left_out: One line for each reason why files were left out.
    """

    series: tuple[ImageSeries, ...]
    files: dict[str, Path]
    left_out: tuple[str, ...]
    _kept: ExitStack = field(default_factory=ExitStack, repr=False)

    def file_of(self, uid: str) -> str:
        """The path of an image, "" when it isn't among them."""
        return str(self.files.get(uid, ""))

    def close(self) -> None:
        """Remove what was unpacked."""
        self._kept.close()


def open_images(source: Path) -> Images:
    """Read a folder, a zip or a file.

    A zip stays unpacked until `Images.close`: the analysis reads the files again.

    Args:
        source: Never written to.

    Raises:
        AnomapError: As `anomap.dicom.read.read_study`.
    """
    with ExitStack() as stack:
        if source.is_file() and is_zip(source):
            unpacked = stack.enter_context(opened(source))
            source = unpacked[0][1].parent if unpacked else source
        study = read_study(source)
        reasons = Counter((item.code, item.reason) for item in study.skipped)
        return Images(
            series=study.series,
            files={str(header.SOPInstanceUID): Path(header.filename) for one in study.series for header in one.headers},
            left_out=tuple(f"left out: {n} × {code} {why}" for (code, why), n in reasons.most_common()),
            _kept=stack.pop_all(),
        )


def label(series: ImageSeries) -> str:
    """A series in words, without anything free-text fields may hold.

    Args:
        series: With its headers.
    """
    header = series.headers[0]
    number = header.get("SeriesNumber")
    frames, rows, columns = series.pixels.shape
    what = f"{series.modality}{'' if number is None else f' series {number}'}"
    if series.modality == "CT":
        return f"{what}: {frames} images of {columns} × {rows}, every {series.spacing_mm[0]:.3g} mm"
    instance = header.get("InstanceNumber")
    return f"{what}{'' if instance is None else f', image {instance}'}: {columns} × {rows}"
