"""Archives: what each answer means; secrets go to the archive and nowhere else; nothing waits for ever."""

from __future__ import annotations

import base64
import json
import logging
import socket
import time

import pytest
from flask import Flask, Response, request
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from anomap.errors import AnomapError
from anomap.service.archive import DicomArchive, WebArchive
from anomap.service.settings import Destination
from anomap.service.sockets import server_context
from tests.service.certificates import make_tls
from tests.service.clinic import free_port
from tests.service.parts import BASIC_TEXT_SR, Archive, http, write_object

TEXT_SR_UID = "9.1"


@pytest.fixture
def path(tmp_path):
    return write_object(tmp_path / "sr.dcm", TEXT_SR_UID)


def _dicom(port, **more):
    words = {"name": "a", "host": "127.0.0.1", "port": port, "ae_title": "PACS", "confirm": "none", "timeout_s": 1.0}
    return DicomArchive(Destination(**{**words, **more}), "ANOMAP")


def _send(archive, path, sop_class=BASIC_TEXT_SR):
    with archive.session([sop_class]) as association:
        archive.send(association, path, sop_class)


@pytest.mark.parametrize("status", [0x0000, 0xB000, 0xB007, 0x0111])
def test_an_object_that_the_archive_takes_or_has_is_sent(status, path):
    archive = Archive()
    archive.answer = status
    with archive.listening():
        _send(_dicom(archive.port), path)
    assert [item.SOPInstanceUID for item in archive.stored] == [TEXT_SR_UID]


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC000, 0x0122, 0x0124])
def test_an_archive_that_refuses_is_quoted_by_its_status(status, path):
    archive = Archive()
    archive.answer = status
    with archive.listening(), pytest.raises(AnomapError, match=f"E601 .*0x{status:04X}"):
        _send(_dicom(archive.port), path)


def test_an_archive_of_implicit_vr_gets_it_so(path):
    archive = Archive(syntaxes=[ImplicitVRLittleEndian])
    with archive.listening():
        _send(_dicom(archive.port), path)
    assert archive.stored[0].SOPInstanceUID == TEXT_SR_UID


def test_an_archive_without_the_class_says_so_and_stays_usable(path):
    archive = Archive()
    with archive.listening():
        both = _dicom(archive.port)
        with both.session([BASIC_TEXT_SR, "1.2.840.10008.5.1.4.1.1.66.4"]) as association:
            with pytest.raises(AnomapError, match="E601 the archive doesn't accept Segmentation Storage"):
                both.send(association, path, "1.2.840.10008.5.1.4.1.1.66.4")
            both.send(association, path, BASIC_TEXT_SR)
        with pytest.raises(AnomapError, match="E601 the archive doesn't accept Segmentation Storage"):
            _send(both, path, "1.2.840.10008.5.1.4.1.1.66.4")


def test_an_archive_that_breaks_off_is_not_reached(path):
    archive = Archive()
    archive.aborts = True
    with archive.listening():
        place = _dicom(archive.port)
        with place.session([BASIC_TEXT_SR]) as association:
            for _ in range(2):  # the second finds no association any more
                with pytest.raises(AnomapError, match="E600"):
                    place.send(association, path, BASIC_TEXT_SR)


def test_an_archive_that_is_away_or_rejects_us_is_not_reached():
    with pytest.raises(AnomapError, match="E600 the archive gives no association"):
        _dicom(free_port()).echo()
    archive = Archive()
    with archive.listening():
        with pytest.raises(AnomapError, match="E600 the archive rejects the association"):
            _dicom(archive.port, ae_title="OTHER").echo()
        _dicom(archive.port).echo()


def test_an_archive_that_says_nothing_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(AnomapError, match="E600"):
            _dicom(silent.getsockname()[1]).echo()
        assert time.monotonic() - start < 5


def test_an_archive_without_storage_commitment_says_so():
    archive = Archive()
    with archive.listening(), pytest.raises(AnomapError, match="E601 the archive doesn't accept Storage Commitment"):
        _dicom(archive.port).ask("7.1", [(BASIC_TEXT_SR, TEXT_SR_UID)])


def test_over_tls_the_certificate_of_the_archive_must_name_its_host(path, tmp_path):
    ours, theirs = make_tls(tmp_path / "keys", "node", "archive")
    (stranger,) = make_tls(tmp_path / "elsewhere", "stranger")
    for keys, reached in ((theirs, True), (stranger, False)):
        archive = Archive()
        archive.context = server_context(keys)
        with archive.listening():
            place = _dicom(archive.port, tls=ours, host="localhost")
            if reached:
                _send(place, path)
            else:
                with pytest.raises(AnomapError, match="E600"):
                    _send(place, path)
        assert len(archive.stored) == reached
    with pytest.raises(AnomapError, match="E200"):
        _dicom(1, tls=ours.__class__(certificate=tmp_path, key=ours.key, authority=ours.authority))


# --- DICOMweb ---


class Web:
    """A DICOMweb server that speaks just enough, and answers what it is told."""

    def __init__(self):
        self.app, self.headers, self.stored, self.kept = Flask("archive"), [], [], []
        self.store, self.find = None, None
        self.app.post("/studies")(self._store)
        self.app.get("/studies/<study>/instances")(self._find)

    def _store(self):
        self.headers.append(dict(request.headers))
        self.stored.append(request.get_data())
        return self.store() if self.store else _json({})

    def _find(self, study):
        self.headers.append(dict(request.headers))
        if self.find:
            return self.find()
        wanted = request.args.get("SOPInstanceUID")
        return _json([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in self.kept if uid == wanted])


def _json(content, status=200, kind="application/dicom+json"):
    return Response(json.dumps(content), status, content_type=kind)


@pytest.fixture
def web():
    made = Web()
    with http(made.app) as made.url:
        yield made


def _archive(url, **more):
    return WebArchive(Destination(name="w", kind="dicomweb", url=url, timeout_s=1.0, **more))


def test_an_object_goes_out_whole(web, path):
    _archive(web.url).send(None, path, BASIC_TEXT_SR)
    (body,) = web.stored
    start = body.index(b"\r\n\r\n") + 4
    (path.parent / "arrived.dcm").write_bytes(body[start:])
    assert dcmread(path.parent / "arrived.dcm", stop_before_pixels=True).SOPInstanceUID == TEXT_SR_UID
    assert 'type="application/dicom"' in web.headers[0]["Content-Type"]


@pytest.mark.parametrize(
    ("status", "code"), [(400, "E601"), (401, "E601"), (409, "E601"), (500, "E600"), (503, "E600")]
)
def test_what_http_complains_of_is_told_by_its_status_alone(status, code, web, path):
    web.store = web.find = lambda: Response("ZZPHI^CANARY", status)
    with pytest.raises(AnomapError, match=f"{code} .*HTTP status {status}") as caught:
        _archive(web.url).send(None, path, BASIC_TEXT_SR)
    assert "ZZPHI" not in str(caught.value)
    with pytest.raises(AnomapError, match=f"{code.replace('E601', 'E602')} .*HTTP status {status}"):
        _archive(web.url).has("1.2", TEXT_SR_UID)


@pytest.mark.parametrize("kind", ["application/dicom+json", "application/json"])
def test_an_object_that_failed_is_refused_though_http_is_content(kind, web, path):
    failed = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}
    web.store = lambda: _json(failed, 202, kind)
    with pytest.raises(AnomapError, match=r"E601 .*0xA700"):
        _archive(web.url).send(None, path, BASIC_TEXT_SR)


def test_an_object_is_there_when_the_archive_lists_it_itself(web):
    archive = _archive(web.url)
    assert not archive.has("1.2", TEXT_SR_UID)
    web.kept = ["9.9", TEXT_SR_UID]
    assert archive.has("1.2", TEXT_SR_UID)
    everything = [{"00080018": {"Value": [uid]}} for uid in ("9.8", "9.9")] + [{}, {"00080018": {"vr": "UI"}}]
    web.find = lambda: _json(everything)  # an archive that ignores the filter
    assert not archive.has("1.2", TEXT_SR_UID)
    assert archive.has("1.2", "9.9")
    web.find = lambda: Response(status=204)
    assert not archive.has("1.2", TEXT_SR_UID)


@pytest.mark.parametrize("content", ["<html>log in</html>", "[3]", '"9.1"', '[{"00080018": 3}]', "null", "{"])
def test_an_answer_that_makes_no_sense_is_no_confirmation(content, web):
    web.find = lambda: Response(content, 200, content_type="application/dicom+json")
    with pytest.raises(AnomapError, match=r"E60[02]") as caught:
        _archive(web.url).has("1.2", TEXT_SR_UID)
    assert "log in" not in str(caught.value)


def test_an_archive_that_is_slow_or_away_is_not_waited_for(web, path):
    web.store = web.find = lambda: time.sleep(3) or _json({})
    start = time.monotonic()
    for act in (lambda a: a.send(None, path, BASIC_TEXT_SR), lambda a: a.has("1.2", TEXT_SR_UID)):
        with pytest.raises(AnomapError, match="E600 no connection"):
            act(_archive(web.url))
        with pytest.raises(AnomapError, match="E600 no connection"):
            act(_archive(f"http://127.0.0.1:{free_port()}"))
    assert time.monotonic() - start < 6


@pytest.mark.parametrize("password", ["hunter2", "pässwört", "密码"])
def test_a_password_goes_to_the_archive_and_nowhere_else(password, web, path, tmp_path, caplog, capsys):
    (tmp_path / "password").write_text(password + "\n", encoding="utf-8")
    archive = _archive(web.url, user="anomap", password_file=tmp_path / "password")
    with caplog.at_level(logging.DEBUG):
        archive.send(None, path, BASIC_TEXT_SR)
        archive.has("1.2", TEXT_SR_UID)
    wanted = "Basic " + base64.b64encode(f"anomap:{password}".encode()).decode()
    assert [headers["Authorization"] for headers in web.headers] == [wanted] * 2
    said = caplog.text + "".join(capsys.readouterr())
    assert password not in said
    assert wanted not in said


def test_a_token_goes_to_the_archive(web, tmp_path):
    (tmp_path / "token").write_text("abc.def\n")
    _archive(web.url, token_file=tmp_path / "token").has("1.2", TEXT_SR_UID)
    assert web.headers[0]["Authorization"] == "Bearer abc.def"
    with pytest.raises(AnomapError, match="E200"):
        _archive(web.url, token_file=tmp_path / "nowhere")


def test_neither_a_proxy_nor_a_netrc_of_whoever_started_the_node_counts(web, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login somebody password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert not _archive(web.url).has("1.2", TEXT_SR_UID)
    assert "Authorization" not in web.headers[0]
