"""Errors a user can meet: each has a stable code, an exit status and a way out.

The table below is the single source of ``docs/errors.md``; a test keeps the two equal.
A message says what was expected, what was found and what to do. It never carries a
patient's name, identifier or an unhashed UID.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from enum import IntEnum


class ExitStatus(IntEnum):
    """The one table of exit codes (every command, the MAP and the worker)."""

    OK = 0  # done; for the gate: pass
    USAGE = 2  # usage or configuration
    UNUSABLE_INPUT = 3  # input unusable, nothing eligible, not applicable
    FAILED = 4  # internal error, model, resources
    PARTIAL = 5  # some series failed, the rest is published
    REVIEW = 10  # gate only
    REJECT = 20  # gate only
    TIMEOUT = 124
    CANCELLED = 130


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """What a code stands for: a title, the exit status, and the usual way out."""

    title: str
    status: ExitStatus
    remedy: str


_IN, _USE, _FAIL = ExitStatus.UNUSABLE_INPUT, ExitStatus.USAGE, ExitStatus.FAILED

CODES: dict[str, ErrorKind] = {
    # E1xx: the input
    "E100": ErrorKind("input not found or empty", _IN, "Check the path; it must hold DICOM files."),
    "E101": ErrorKind("not a DICOM file", _IN, "Remove the file or convert it to DICOM Part 10."),
    "E102": ErrorKind("damaged or truncated file", _IN, "Send the image again from the archive."),
    "E103": ErrorKind("slices are unevenly spaced or missing", _IN, "Send the complete series, or pass --allow-gaps."),
    "E104": ErrorKind("several patients in one input", _IN, "Give one patient's images at a time."),
    "E105": ErrorKind("no pixel data, or not an image", _IN, "Give CT, CR or DX images."),
    "E106": ErrorKind("colour image", _IN, "anomap reads single-channel images only."),
    "E107": ErrorKind(
        "transfer syntax unsupported or codec missing", _IN, "See `anomap doctor`; decompress the image."
    ),
    "E108": ErrorKind("pixel values unusable (NaN, constant or empty)", _IN, "Check the acquisition or the export."),
    "E109": ErrorKind("grey values have no usable scale", _IN, "Rescale Slope/Intercept must be valid numbers."),
    "E110": ErrorKind("localizer, scout or derived image", _IN, "Give the axial series itself."),
    "E111": ErrorKind("modality or SOP class not supported", _IN, "Give CT, CR or DX images."),
    "E112": ErrorKind(
        "geometry missing, invalid or inconsistent", _IN, "Position, orientation and spacing must be valid."
    ),
    "E113": ErrorKind("outside the model's domain", _IN, "Choose a model for this kind of image (`anomap models`)."),
    "E114": ErrorKind("no body found in the image", _IN, "Check that the image shows a patient."),
    "E115": ErrorKind("duplicate image with other content", _IN, "Keep one image per SOP Instance UID."),
    "E116": ErrorKind("image made by anomap itself", _IN, "Analyse the source images, not the results."),
    "E117": ErrorKind("image too large to be real", _IN, "Rows, columns and frames must fit the pixel data."),
    "E118": ErrorKind("not what the gate's policy expects", _IN, "Give the images the policy asks for."),
    # E2xx: usage and configuration
    "E200": ErrorKind("wrong option or configuration", _USE, "See `anomap COMMAND --help`."),
    "E201": ErrorKind("output exists", _USE, "Choose an empty folder or pass --overwrite."),
    "E202": ErrorKind("output not writable", _USE, "Check permissions and free space."),
    "E203": ErrorKind("optional dependency missing", _USE, "Install the extra that the message names."),
    # E3xx: the model
    "E300": ErrorKind("model not found", _FAIL, "See `anomap models` and --models DIR."),
    "E301": ErrorKind("model file does not match its hash", _FAIL, "Restore the bundle; never edit its files."),
    "E302": ErrorKind("model bundle invalid or of another version", _FAIL, "Use a bundle made for this version."),
    "E303": ErrorKind("site cohort does not fit model or settings", _FAIL, "Calibrate again: `anomap calibrate`."),
    "E304": ErrorKind("weight file refused", _FAIL, "Get the file from its authors again; nothing of it was run."),
    "E305": ErrorKind("network architecture not supported", _FAIL, "See docs/models.md for what can be imported."),
    "E310": ErrorKind("training checkpoint damaged", _FAIL, "Restore state.pt, or train in a new run folder."),
    "E311": ErrorKind(
        "training run of other settings or images", _USE, "Give the run's own settings, or another --name or --runs."
    ),
    "E312": ErrorKind("training diverged", _FAIL, "Lower --training.learning-rate, or pass --training.bf16 off."),
    "E313": ErrorKind("feature network unusable", _USE, "See docs/training.md for what the file must do."),
    "E314": ErrorKind("run folder in use", _USE, "Wait for the other training to end, or give another --name."),
    # E4xx: resources
    "E400": ErrorKind("out of memory", _FAIL, "Lower --batch-size or use --device cpu."),
    "E401": ErrorKind("device not available", _FAIL, "Use --device auto or cpu."),
    "E402": ErrorKind("time-out", ExitStatus.TIMEOUT, "Raise the time limit or use preset fast."),
    "E403": ErrorKind("cancelled", ExitStatus.CANCELLED, "Start again when ready; nothing was published."),
    # E5xx: ours
    "E500": ErrorKind("internal error", _FAIL, "Run with --debug and report the traceback."),
    "E501": ErrorKind("result failed its own checks", _FAIL, "Nothing was published; report the message."),
    # E6xx: the clinic node
    "E600": ErrorKind("archive not reachable", _FAIL, "Check the destination's address; the result is sent again."),
    "E601": ErrorKind("archive refused a result", _FAIL, "See the archive's log and the SOP classes it accepts."),
    "E602": ErrorKind("archive did not confirm a result", _FAIL, "Check the destination's `confirm` and `url`."),
    "E603": ErrorKind("state folder not usable", _USE, "Stop the other node, or give each its own `state` folder."),
    "E604": ErrorKind("too little disk space", _FAIL, "Free space, or lower the `disk` settings."),
    "E605": ErrorKind("no such job", _USE, "See `anomap status`."),
    "E606": ErrorKind("analysis process died", _FAIL, "The job is tried again; see the system's log for the cause."),
    "E607": ErrorKind("node not healthy", _FAIL, "See `anomap status` and the node's log."),
    # E7xx: the curation of a repository
    "E700": ErrorKind("curation of other settings, models or files", _USE, "Give the same again, or --overwrite."),
    "E701": ErrorKind("file changed or vanished since it was indexed", _IN, "Curate again when nobody writes there."),
    "E702": ErrorKind("a shard's worker died repeatedly", _FAIL, "Run `anomap curate shard` alone to see the cause."),
    "E703": ErrorKind("curation incomplete or damaged", _USE, "Run `anomap curate` again; finished shards are kept."),
    "E710": ErrorKind("list of decisions unreadable", _USE, "See docs/curation-report.md for its columns."),
    "E711": ErrorKind("list of decisions does not fit", _USE, "Correct the lines that the message names."),
    "E712": ErrorKind("path can't stand in a list", _USE, "Rename the file and curate again."),
}


class AnomapError(Exception):
    """A failure with a stable code.

    Args:
        code: A key of `CODES`.
        message: One line: expected, got, where. No patient data.
        remedy: What to do; the code's usual remedy when omitted.
    """

    def __init__(self, code: str, message: str, remedy: str | None = None) -> None:
        self.code = code
        self.message = message
        self.remedy = CODES[code].remedy if remedy is None else remedy
        super().__init__(f"{code} {message}. {self.remedy}".replace(".. ", ". "))

    @property
    def status(self) -> ExitStatus:
        """The exit status of a command that ends with this error."""
        return CODES[self.code].status

    def __reduce__(self) -> tuple[type[AnomapError], tuple[str, str, str]]:
        """Keep all three parts when the error crosses a process border."""
        return (AnomapError, (self.code, self.message, self.remedy))


def require_extra(extra: str, *modules: str) -> None:
    """Raise E203 unless an extra's modules are installed; they are looked for, not loaded."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise AnomapError("E203", f"{', '.join(missing)} not installed", f"pip install 'anomap[{extra}]'")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory was refused; torch has a class of its own for devices, and none for the CPU."""
    if isinstance(error, RuntimeError) and "you tried to allocate" in str(error):
        return True
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
