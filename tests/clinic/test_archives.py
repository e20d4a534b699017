"""Every way to an archive and of asking it, and TLS in both directions."""

from __future__ import annotations

from pathlib import Path

import pytest

from anomap.dicom.phantom import write_ct_phantom
from anomap.service.settings import Tls
from tests.clinic.results import CT_RESULTS, require_one_set, require_valid, results_of
from tests.clinic.shipped import ShippedNode, ShippedOrthanc
from tests.service.certificates import Authority
from tests.service.clinic import Node, Orthanc, dicom_archive, eventually, free_port, running, storescu


@pytest.fixture
def series(tmp_path: Path) -> list[Path]:
    return write_ct_phantom(tmp_path / "ct", slices=5, rows=64, columns=64)


@pytest.mark.parametrize(
    ("kind", "confirm"),
    [("dicom", "commitment"), ("dicom", "none"), ("dicomweb", "qido"), ("dicomweb", "none")],  # dicom, qido: elsewhere
)
def test_results_arrive_once(kind: str, confirm: str, toy_models: Path, series: list[Path], tmp_path: Path):
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port)
    node = Node(tmp_path / "node", toy_models, [dicom_archive(orthanc, kind=kind, confirm=confirm)], port=port)
    with running(orthanc, node):
        assert storescu(node.port, "ANOMAP", *series) == 0
        node.wait("done")
        found = require_one_set(orthanc, series[0], CT_RESULTS)
        require_valid(found, tmp_path / "back")
        metrics = node.page("/metrics").decode()
        assert 'anomap_objects_sent_total{archive="archive"} 3.0' in metrics
        assert ('anomap_objects_confirmed_total{archive="archive"} 3.0' in metrics) == (confirm != "none")
        jobs = {job["Type"] for job in orthanc.get("/jobs?expand")}
        assert ("StorageCommitmentScp" in jobs) == (confirm == "commitment")


def test_an_object_that_the_archive_lost_is_sent_again(toy_models: Path, series: list[Path], tmp_path: Path):
    """Between taking it and being asked, Orthanc loses one object: storage commitment finds out."""
    port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", port, {"StableAge": 60}, lua=LOSES_FIRST_REPORT)
    node = Node(tmp_path / "node", toy_models, [dicom_archive(orthanc, confirm="commitment")], port=port)
    with running(orthanc, node):
        assert storescu(node.port, "ANOMAP", *series) == 0
        node.wait("done")
        assert {line["code"] for line in node.events("object_not_sent")} == {"E602"}
        assert len(node.events("object_sent")) == len(CT_RESULTS) + 1
        require_one_set(orthanc, series[0], CT_RESULTS)


LOSES_FIRST_REPORT = """
local lost = false
function ReceivedInstanceFilter(tags, origin)
  if tags['Modality'] == 'SR' and not lost then
    lost = true
    return false  -- answered with success all the same
  end
  return true
end
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "hospital")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "stranger")


def storescu_words(keys: Tls, authority: Authority | None = None) -> list[str]:
    """To show a certificate, and to trust another authority than that of the keys."""
    trusted = keys.authority if authority is None else authority.path
    return ["+tls", str(keys.key), str(keys.certificate), "+cf", str(trusted)]


def table(keys: Tls, authority: Authority | None = None) -> dict[str, str]:
    """The same in the node's settings."""
    trusted = keys.authority if authority is None else authority.path
    return {"certificate": str(keys.certificate), "key": str(keys.key), "authority": str(trusted)}


def test_only_peers_with_our_certificates_get_in(
    authority: Authority, stranger: Authority, toy_models: Path, series: list[Path], tmp_path: Path
):
    tls = table(authority.tls("node"))
    node = Node(tmp_path / "node", toy_models, listen={"tls": tls}, work={"quiet_s": 60.0})
    with running(node):
        for who, words in {
            "no TLS": [],
            "no certificate": ["+tla", "+cf", str(authority.path)],
            "foreign certificate": storescu_words(stranger.tls("intruder"), authority),
            "expired certificate": storescu_words(authority.tls("late", days=-1)),
        }.items():
            assert storescu(node.port, "ANOMAP", *series, words=words) != 0, who
            assert node.states() == [], who
        good = storescu_words(authority.tls("modality"))
        assert storescu(node.port, "ANOMAP", *series, words=good) == 0
        assert node.states() == ["receiving"]
        # A sender that doesn't trust us keeps its images, too.
        distrust = storescu_words(authority.tls("modality"), stranger)
        assert storescu(node.port, "ANOMAP", *series, words=distrust) != 0
        assert len(node.events("image_new")) == len(series)
        assert node.events("image_known") == []


def tls_orthanc(folder: Path, port: int, keys: Tls) -> ShippedOrthanc:
    """Orthanc as shipped, with TLS as docs/clinic.md says."""
    server = (
        f'"DicomTlsEnabled" : true, "DicomTlsCertificate" : "{keys.certificate}", '
        f'"DicomTlsPrivateKey" : "{keys.key}", "DicomTlsTrustedCertificates" : "{keys.authority}", '
        '"DicomTlsRemoteCertificateRequired" : true, "DicomAet"'
    )
    client = '"AllowStorageCommitment" : true'
    changes = {'"DicomAet"': server, client: f'{client}, "UseDicomTls" : true'}
    return ShippedOrthanc(folder, port, changes)


def tls_tables(keys: Tls) -> dict[str, str]:
    """The lines of node.toml that switch TLS on, in and out."""
    lines = [f'{name} = "{path}"' for name, path in table(keys).items()]
    before = ['# certificate = "node.crt"', '# key = "node.key"', '# authority = "peers.crt"']
    return {
        "# [listen.tls]": "[listen.tls]",
        "# [destination.tls]": "[destination.tls]",
        **dict(zip(before, lines, strict=True)),
    }


@pytest.mark.parametrize("confirm", ["qido", "commitment"])
def test_orthanc_and_node_speak_tls_both_ways(
    confirm: str, authority: Authority, toy_models: Path, series: list[Path], tmp_path: Path
):
    port = free_port()
    orthanc = tls_orthanc(tmp_path / "orthanc", port, authority.tls("orthanc"))
    changes = {**tls_tables(authority.tls("node")), 'confirm = "qido"': f'confirm = "{confirm}"'}
    node = ShippedNode(tmp_path / "node", toy_models, orthanc, port, changes)
    with running(orthanc, node):
        assert storescu(orthanc.dicom, orthanc.title, *series, words=[]) != 0
        words = storescu_words(authority.tls("modality"))
        assert storescu(orthanc.dicom, orthanc.title, *series, words=words) == 0
        node.wait("done")
        require_one_set(orthanc, series[0], CT_RESULTS)
        assert orthanc.jobs() == ["Success"]


@pytest.mark.parametrize("wrong", ["authority of the archive", "host of the archive", "our certificate"])
def test_no_result_goes_to_an_archive_that_fails_tls(
    wrong: str, authority: Authority, stranger: Authority, toy_models: Path, series: list[Path], tmp_path: Path
):
    port = free_port()
    host = "127.0.0.9" if wrong == "host of the archive" else "127.0.0.1"
    orthanc = tls_orthanc(tmp_path / "orthanc", port, authority.tls("orthanc", host=host))
    ours = {
        "authority of the archive": table(authority.tls("node"), stranger),
        "host of the archive": table(authority.tls("node")),
        "our certificate": table(stranger.tls("node"), authority),
    }[wrong]
    place = dicom_archive(orthanc, confirm="none", tls=ours)
    node = Node(tmp_path / "node", toy_models, [place], port=port)
    with running(orthanc, node):
        assert storescu(node.port, "ANOMAP", *series) == 0
        eventually(lambda: len(node.events("object_not_sent")) > len(CT_RESULTS), "more than one attempt")
        assert {line["code"] for line in node.events("object_not_sent")} == {"E600"}
        assert node.states() == ["outbox"]
        assert results_of(orthanc, series[0]) == []
