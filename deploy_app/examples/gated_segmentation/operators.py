"""What stands behind the gate: segment and write after PASS, or write down that nothing was segmented."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.deploy.core import ExecutionContext, Fragment, InputContext, Operator, OperatorSpec, OutputContext
from pydicom.dataset import Dataset

from anomap.errors import AnomapError
from anomap.gate.run import GateVerdict
from anomap.output import as_error, writing
from anomap.report import Json, output_entry
from deploy_app.examples.gated_segmentation.lung_object import build_lung_object
from deploy_app.examples.gated_segmentation.segmenter import THRESHOLD, load_segmenter, probabilities

SEGMENTATION = "segmentation"


@dataclass(slots=True)
class Books:
    """What became of the study; shared by the operators, read when Holoscan has ended.

    Attributes:
        verdict: Set by whichever branch ran; None when none did.
        files: Entries of the segmentations written.
        error: What kept a study that passed from being segmented.
    """

    verdict: GateVerdict | None = None
    files: list[Json] = field(default_factory=list)
    error: AnomapError | None = None


class SegmentOperator(Operator):
    """Port ``verdict`` to ``segmented``: lung fields of every radiograph of a study that passed.

    It looks at the verdict itself once more: wired without a `fork` by mistake, it still segments nothing else.

    Args:
        fragment: The application.
        bundle: The model, a MONAI Bundle. It is loaded after PASS.
        books: Of the run.
        name: As always, keyword arguments of `Operator`.
    """

    def __init__(self, fragment: Fragment, *args: Any, bundle: Path, books: Books, **kwargs: Any) -> None:
        self.bundle, self.books = bundle, books
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the ports."""
        spec.input("verdict")
        spec.output("segmented")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Segment; give on what there is, nothing after a failure."""
        self.books.verdict = op_input.receive("verdict")
        found: dict[str, Dataset] = {}
        try:
            found = self.segment(self.books.verdict)
        except Exception as error:
            self.books.error = as_error(error)
        op_output.emit(found, "segmented")

    def segment(self, verdict: GateVerdict) -> dict[str, Dataset]:
        """Folder name of each radiograph -> its segmentation.

        Raises:
            AnomapError: E501 without PASS or when no lung is found, E113 when there is no radiograph; as
                `load_segmenter` and `probabilities`.
        """
        if verdict.outcome is None or not verdict.passed:
            raise AnomapError("E501", "the segmenter was called without a PASS")
        entries = verdict.outcome.content["series"]
        radiographs = {
            entry["folder"]: series
            for entry, series in zip(entries, verdict.series, strict=True)
            if series.modality != "CT"
        }
        if not radiographs:
            raise AnomapError("E113", "the segmenter is for radiographs, and there is none")
        segmenter = load_segmenter(self.bundle)
        return {
            name: build_lung_object(series, probabilities(segmenter, series) > THRESHOLD, segmenter)
            for name, series in radiographs.items()
        }


class WriteSegmentationOperator(Operator):
    """Port ``segmented``: writes each SEG as ``segmentation/<series>.dcm``.

    Args:
        fragment: The application.
        folder: Of the results.
        books: Of the run.
        name: As always, keyword arguments of `Operator`.
    """

    def __init__(self, fragment: Fragment, *args: Any, folder: Path, books: Books, **kwargs: Any) -> None:
        self.folder, self.books = folder / SEGMENTATION, books
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("segmented")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Write what there is."""
        try:
            for name, dataset in op_input.receive("segmented").items():
                path = self.folder / f"{name}.dcm"
                with writing():
                    self.folder.mkdir(exist_ok=True)
                    dataset.save_as(path, enforce_file_format=True)
                self.books.files.append(output_entry(path, str(dataset.SOPClassUID)))
        except Exception as error:
            self.books.error = as_error(error)


class WithholdOperator(Operator):
    """Port ``verdict``: the branch of everything but PASS. The gate's own report is all there will be.

    Args:
        fragment: The application.
        books: Of the run.
        name: As always, keyword arguments of `Operator`.
    """

    def __init__(self, fragment: Fragment, *args: Any, books: Books, **kwargs: Any) -> None:
        self.books = books
        super().__init__(fragment, *args, **kwargs)

    def setup(self, spec: OperatorSpec) -> None:
        """Declare the port."""
        spec.input("verdict")

    def compute(self, op_input: InputContext, op_output: OutputContext, context: ExecutionContext) -> None:
        """Keep the verdict."""
        self.books.verdict = op_input.receive("verdict")
