"""The tables of docs/conformance.md are what the code does. ``make docs`` (UPDATE_DOCS=1) rewrites them."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import UID, ExplicitVRLittleEndian
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION, AllStoragePresentationContexts

from anomap.config import AnalyzeConfig
from anomap.dicom import header
from anomap.dicom.phantom import write_ct_phantom
from anomap.service import receiver
from anomap.service.settings import Listen
from anomap.service.sockets import MAX_PDU
from anomap.study import analyze

PAGE = Path(__file__).parents[1] / "docs" / "conformance.md"
STATUSES = {
    receiver.SUCCESS: "taken, or dropped because anomap doesn't analyse it",
    receiver.NO_SPACE: "out of resources: `disk.min_free_gb` is reached, or the disk fails",
    receiver.MISMATCH: "the data set has another SOP Instance UID than the message",
    receiver.NOT_UNDERSTOOD: "the data set can't be read, or a UID is missing or not valid",
}


@pytest.fixture(scope="module")
def written(toy_models: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, pydicom.Dataset]:
    """One object of each kind that there is, by its name among the outputs."""
    folder = tmp_path_factory.mktemp("written")
    write_ct_phantom(folder / "ct", slices=3, rows=64, columns=64)
    config = AnalyzeConfig(steps=1, outputs=("sr", "seg", "pm", "sc"))
    analyze(folder / "ct", folder / "out", toy_models, config)
    return {path.stem: pydicom.dcmread(path) for path in (folder / "out").glob("*/*.dcm")}


def table(*rows: tuple[object, ...]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def tables(written: dict[str, pydicom.Dataset]) -> dict[str, str]:
    analysed = header._MODALITIES
    defaults = {field.name: field.default for field in dataclasses.fields(Listen)}
    others = [context.abstract_syntax for context in AllStoragePresentationContexts]
    others = [uid for uid in others if uid not in analysed]
    return {
        "association": table(
            ("", "value", "setting"),
            ("application context", "1.2.840.10008.3.1.1.1", ""),
            ("implementation class UID", PYNETDICOM_IMPLEMENTATION_UID, ""),
            ("implementation version name", PYNETDICOM_IMPLEMENTATION_VERSION, ""),
            ("maximum PDU size received", MAX_PDU, ""),
            ("associations at the same time", defaults["max_associations"], "`listen.max_associations`"),
            ("largest message", f"{defaults['max_object_mb']} MB", "`listen.max_object_mb`"),
            ("longest silence, and time for one PDU", f"{defaults['silence_s']:g} s", "`listen.silence_s`"),
        ),
        "analysed": table(
            ("SOP class", "UID", "Modality"),
            *((UID(uid).name, uid, ", ".join(modalities)) for uid, modalities in analysed.items()),
        ),
        "others": f"{len(others)} other Storage SOP classes.\n\n<details><summary>They are</summary>\n\n"
        + "; ".join(f"{UID(uid).name} ({uid})" for uid in others)
        + "\n\n</details>",
        "syntaxes": table(
            ("transfer syntax", "UID"), *((UID(uid).name, uid) for uid in receiver.TRANSFER_SYNTAXES)
        ),
        "statuses": table(("status", "meaning"), *((f"{code:04X}", text) for code, text in STATUSES.items())),
        "written": table(
            ("output", "SOP class", "UID", "Modality"),
            *(
                (f"`{name}`", dataset.SOPClassUID.name, dataset.SOPClassUID, dataset.Modality)
                for name, dataset in sorted(written.items())
            ),
        ),
    }  # fmt: skip


def test_conformance_md_is_a_generated_page(written):
    text = PAGE.read_text()
    wanted = text
    for name, content in tables(written).items():
        pattern = re.compile(rf"(<!-- generated: {name} -->\n).*?(?=<!-- end -->)", re.DOTALL)
        assert len(pattern.findall(wanted)) == 1, name
        wanted = pattern.sub(lambda match, content=content: match[1] + content + "\n", wanted)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(wanted)
    assert PAGE.read_text() == wanted, "run `make docs`"
    assert wanted.count("<!-- generated:") == len(tables(written))


def test_the_statement_about_written_objects_holds(written):
    assert sorted(written) == ["pm", "sc", "seg", "sr"]
    for dataset in written.values():
        assert dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert not [element for element in dataset.iterall() if element.tag.is_private]
        assert not dataset.SOPClassUID.is_private
        assert dataset.Manufacturer == "anomap"
        assert "NOT A DIAGNOSIS" in dataset.SeriesDescription
        assert "99ANOMAP" in [item.CodingSchemeDesignator for item in dataset.CodingSchemeIdentificationSequence]
    report, regions, residual = (written[name] for name in ("sr", "seg", "pm"))
    flags = (report.CompletionFlag, report.PreliminaryFlag, report.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    assert (regions.SegmentationType, regions.SegmentSequence[0].SegmentAlgorithmType) == ("BINARY", "AUTOMATIC")
    assert "FloatPixelData" in residual
    assert (written["sc"].ConversionType, written["sc"].PhotometricInterpretation) == ("WSD", "RGB")


def test_all_statuses_that_the_listener_gives_are_listed():
    """The listener names them in one line."""
    source = Path(receiver.__file__).read_text()
    (line,) = re.findall(r"^SUCCESS, .* = (.*)$", source, re.MULTILINE)
    assert {int(word, 16) for word in line.split(", ")} == set(STATUSES)
