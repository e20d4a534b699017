"""Row 20: a patient's name in any character set, right or wrong, leaves the house as it came in, byte by byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_charset_files

from anomap import cli
from anomap.service.spool import key_of
from anomap.service.types import OPEN
from tests.clinic.faults import edit, radiograph, raw
from tests.clinic.watch import clinic, jobs_of
from tests.clinic.wire import store_files
from tests.service.clinic import Node, eventually

Name = tuple[bytes, bytes]  # Specific Character Set and Patient's Name as bytes
MADE: dict[str, Name] = {
    "GB18030": (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030")),
    "UTF-8": (b"ISO_IR 192", "Wang^XiaoDong=王^小東=".encode()),
    "no character set": (b"", b"ZZPHI^PLAIN"),
    "unknown set ISO_IR 999": (b"ISO_IR 999", b"ZZPHI^\xc4\xd6\xdc"),
    "not valid in UTF-8": (b"ISO_IR 192", b"ZZPHI^\xff\xfe\xc4"),
    "not valid in ISO 2022": (b"\\ISO 2022 IR 87", b"ZZPHI^A=\x1b$B\x3b\x33\xff\x45\x1b(B"),
    "latin letters without a set": (b"", b"ZZPHI^M\xfcller"),
}


def names() -> dict[str, Name]:
    """Those of pydicom's files, and our own."""
    found = {}
    for path in sorted(map(Path, get_charset_files("*.dcm"))):
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        if "PatientName" in dataset:  # two files hold sequences only
            found[path.name] = (element(dataset, 0x00080005), element(dataset, 0x00100010))
    return {**found, **MADE}


def element(dataset: pydicom.Dataset, tag: int) -> bytes:
    """The bytes of an element as they were read, without padding. Only the character set is decoded already."""
    found = dataset.get_item(tag)
    if found is None or not found.value:
        return b""
    if isinstance(found.value, bytes):
        return found.value.rstrip(b" \0")
    values = [found.value] if isinstance(found.value, str) else found.value
    return "\\".join(values).encode()


NAMES = names()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    base = tmp_path_factory.mktemp("names")
    for number, (charset, name) in enumerate(NAMES.values()):
        paths = radiograph(base / str(number), number)
        edit(paths, raw(0x00080005, "CS", charset))
        edit(paths, raw(0x00100010, "PN", name))
    return {name: base / str(number) for number, name in enumerate(NAMES)}


@pytest.fixture(scope="module")
def node(toy_models, inputs, tmp_path_factory) -> Iterator[Node]:
    """A node that has analysed them all."""
    quick = {"steps": 0, "outputs": ["sr", "seg"]}
    with clinic(tmp_path_factory.mktemp("node"), toy_models, analysis=quick) as one:
        for folder in inputs.values():
            assert store_files(one.port, list(folder.iterdir())) == [0]
        eventually(lambda: not {job["state"] for job in one.status()["jobs"]} & set(OPEN), "all analysed", 120)
        yield one


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.fault(20, n, "name in the results equals the source")) for n in NAMES]
)
def test_a_name_is_copied_byte_by_byte(name, node, inputs, toy_models, tmp_path, capfd, seen):
    words = ["analyze", str(inputs[name]), str(tmp_path / "out"), "--models", str(toy_models)]
    assert cli.main([*words, "--steps", "0", "--outputs", "sr", "seg"]) == 0
    (source,) = inputs[name].iterdir()
    key = key_of(str(pydicom.dcmread(source, stop_before_pixels=True).SeriesInstanceUID))
    (job,) = jobs_of(node)[key]
    assert job["state"] == "done"
    results = [*(tmp_path / "out").rglob("*.dcm"), *(node.state / "results").glob(f"{job['id']:06d}-*/*/*.dcm")]
    assert len(results) >= 2
    for path in results:
        dataset = pydicom.dcmread(path, stop_before_pixels=True)
        assert element(dataset, 0x00100010) == NAMES[name][1].rstrip(b" \0")
        assert element(dataset, 0x00080005) == NAMES[name][0]
    said = capfd.readouterr()
    assert "ZZPHI" not in said.out + said.err + node.log()
    seen(f"equal in {len(results)} objects, {NAMES[name][0].decode() or 'no set'}")
