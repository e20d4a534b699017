"""What travels through the node: states of a job, and the frozen dataclasses between its parts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Reception = Literal["new", "known", "conflict"]


class JobState(StrEnum):
    """How far a job is; see the package's docstring."""

    RECEIVING = "receiving"  # images still come
    READY = "ready"  # waits for a worker, or for its next attempt
    RUNNING = "running"
    OUTBOX = "outbox"  # analysed; not every result is confirmed by every archive
    DONE = "done"
    REFUSED = "refused"  # no analysis is possible: unusable or foreign images
    FAILED = "failed"  # given up; a person should look
    SUPERSEDED = "superseded"  # more images came before it was sent
    DISCARDED = "discarded"  # by a person


OPEN = (JobState.RECEIVING, JobState.READY, JobState.RUNNING, JobState.OUTBOX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A received image, already on the disk.

    Attributes:
        uid, series_uid, study_uid, modality: Of its header.
        series_key: Hash of the series' UID.
        path: Below the state folder.
        sha256: Of its data set.
        caller: AE title that sent it.
    """

    uid: str
    series_uid: str
    study_uid: str
    modality: str
    series_key: str
    path: str
    sha256: str
    caller: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A job that a worker may run.

    Attributes:
        job: Its number.
        run: How often it was started, this time included.
        series_key: Its series.
        attempt: How often it was tried, this time included.
        previous: Reports of the same series that went out before, relative to the state folder.
    """

    job: int
    run: int
    series_key: str
    attempt: int
    previous: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """A DICOM object to send.

    Attributes:
        uid, sop_class: Its own.
        path: Below the state folder.
    """

    uid: str
    sop_class: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One object for one archive.

    Attributes:
        id: Of the row.
        job: Its job.
        uid, sop_class: Of the object.
        study_uid: Of the study it belongs to.
        path: Below the state folder.
        attempts: So far.
        sent_at: When the archive took it, if it did.
        transaction_uid: Of the storage commitment asked for.
    """

    id: int
    job: int
    uid: str
    sop_class: str
    study_uid: str
    path: str
    attempts: int
    sent_at: float | None
    transaction_uid: str | None
