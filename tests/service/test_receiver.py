"""The listener: what it takes is on the disk, what it can't use it says so, what isn't for it stops nobody."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.uid import (
    JPEG2000,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    generate_uid,
)

from anomap.dicom.phantom import write_ct_phantom, write_radiograph_phantom
from anomap.errors import AnomapError
from anomap.service.receiver import Receiver, read_start
from anomap.service.spool import key_of
from tests.service.clinic import ROOT, eventually, free_port, wait_for_port
from tests.service.listening import VERIFICATION, Listener, association, send
from tests.service.parts import State, write_object


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    return write_ct_phantom(tmp_path_factory.mktemp("ct"), slices=2, rows=32, columns=32)


@pytest.fixture
def listener(state, tmp_path):
    with Listener(state, tmp_path).listening() as made:
        yield made


def test_an_echo_is_answered(listener):
    with association(listener.port, [(VERIFICATION, [ImplicitVRLittleEndian])]) as made:
        assert made.send_c_echo().get("Status") == 0


@pytest.mark.parametrize(("calling", "called"), [("STRANGER", "ANOMAP"), ("MODALITY", "OTHER")])
def test_only_named_titles_may_associate(calling, called, listener):
    with association(listener.port, [(VERIFICATION, [ImplicitVRLittleEndian])], calling=calling, called=called) as made:
        assert made.is_rejected
    eventually(lambda: listener.counters().get(("associations", "rejected")) == 1, "the rejection is counted", 5)


def test_what_is_taken_lies_on_the_disk_and_in_the_job_table(listener, slices):
    assert send(listener.port, *slices) == [0, 0]
    sources = [dcmread(path) for path in slices]
    key = key_of(sources[0].SeriesInstanceUID)
    assert [path.parent.name for path in listener.files()] == [key] * 2
    by_uid = {item.SOPInstanceUID: item for item in map(dcmread, listener.files())}
    for source in sources:
        assert by_uid[source.SOPInstanceUID] == source
        assert (listener.state.root / listener.state.spool.image_path(key, source.SOPInstanceUID)).is_file()
    assert listener.state.rows("SELECT modality, caller FROM series") == [{"modality": "CT", "caller": "MODALITY"}]
    assert listener.state.states() == ["receiving"]
    assert listener.counters() == {("received", "new"): 2}


def test_the_same_again_is_known_and_writes_nothing(listener, slices):
    send(listener.port, slices[0])
    before = listener.files()[0].stat()
    assert send(listener.port, slices[0]) == [0]
    assert listener.files()[0].stat().st_mtime_ns == before.st_mtime_ns
    assert listener.counters() == {("received", "new"): 1, ("received", "known"): 1}


def test_other_content_under_a_known_uid_leaves_the_first(listener, slices, capsys):
    other = dcmread(slices[0])
    other.PatientName = "ZZPHI^CANARY"
    send(listener.port, slices[0])
    before = listener.files()[0].read_bytes()
    assert send(listener.port, other) == [0]
    assert [path.read_bytes() for path in listener.files()] == [before]
    assert listener.counters()["received", "conflict"] == 1
    assert len(listener.state.rows("SELECT * FROM alarms")) == 1
    assert "ZZPHI" not in capsys.readouterr().err


def test_of_many_at_once_the_first_counts_and_the_file_is_its(listener, slices):
    """Eight peers send other content under one UID at the same time."""
    kinds = [dcmread(slices[0]) for _ in range(8)]
    for k, item in enumerate(kinds):
        item.PatientID = str(k)
    threads = [threading.Thread(target=send, args=(listener.port, item)) for item in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert listener.counters() == {("received", "new"): 1, ("received", "conflict"): 7}
    (path,) = listener.files()
    data = path.read_bytes()
    (row,) = listener.state.rows("SELECT sha256 FROM images")
    assert hashlib.sha256(data[_body_start(data) :]).hexdigest() == row["sha256"]


def _body_start(data):
    """Where the data set begins: after preamble, mark and the group of file meta information (PS3.10 7.1)."""
    return 144 + int.from_bytes(data[140:144], "little")


def test_a_file_that_was_cleaned_away_is_written_again(listener, slices):
    send(listener.port, slices[0])
    listener.state.database.connection.execute("UPDATE images SET present = 0")
    listener.files()[0].unlink()
    assert send(listener.port, slices[0]) == [0]
    assert len(listener.files()) == 1
    assert listener.state.rows("SELECT present FROM images") == [{"present": 1}]


def test_a_file_that_vanishes_in_the_midst_is_written_again(listener, slices):
    """The job table still says that it is there: cleaning and a resend may cross."""
    send(listener.port, slices[0])
    listener.files()[0].unlink()
    assert send(listener.port, slices[0]) == [0]
    assert len(listener.files()) == 1


def test_another_uid_than_the_message_says_is_refused(listener, slices):
    item = dcmread(slices[0])
    told, item.SOPInstanceUID = item.SOPInstanceUID, "1.2.3.4"
    with association(listener.port, [(CTImageStorage, [str(item.file_meta.TransferSyntaxUID)])]) as made:
        assert _store_as(made, item, told) == 0xA900
    assert listener.files() == []
    assert listener.counters() == {("refused", "mismatch"): 1}


def _store_as(made, item, uid):
    """A C-STORE whose message names another object than its data set."""
    from pynetdicom.dimse_primitives import C_STORE
    from pynetdicom.dsutils import encode

    request = C_STORE()
    request.MessageID, request.Priority = 1, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = item.SOPClassUID, uid
    implicit = item.file_meta.TransferSyntaxUID.is_implicit_VR
    request.DataSet = io.BytesIO(encode(item, implicit, True))
    made._reactor_checkpoint.clear()  # as pynetdicom itself does while it waits for an answer
    eventually(lambda: made._is_paused, "the association's own reading pauses", 5)
    made.dimse.send_msg(request, made.accepted_contexts[0].context_id)
    _, answer = made.dimse.get_msg(block=True)
    return answer.Status


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID"])
@pytest.mark.parametrize("value", ["", "../../x", "1..2", "1.02", "1"])
def test_what_has_no_proper_uids_is_not_understood(keyword, value, listener, slices):
    item = dcmread(slices[0])
    item[keyword].validation_mode = 0
    item[keyword].value = value
    assert send(listener.port, item) == [0xC000]
    assert listener.files() == []
    assert listener.counters() == {("refused", "unreadable"): 1}


def test_what_anomap_does_not_analyse_is_taken_counted_and_dropped(listener, slices, tmp_path):
    report = dcmread(write_object(tmp_path / "sr.dcm", "1.2.3.5"))
    own, magnetic = dcmread(slices[0]), dcmread(slices[1])
    own.Manufacturer = "anomap"
    magnetic.Modality = "MR"
    assert send(listener.port, report, own, magnetic, slices[0]) == [0, 0, 0, 0]
    assert listener.counters() == {("ignored", "E111"): 2, ("ignored", "E116"): 1, ("received", "new"): 1}
    assert len(listener.files()) == 1


def test_only_lossless_and_bounded_transfer_syntaxes_are_accepted(listener):
    wanted = [DeflatedExplicitVRLittleEndian, JPEG2000, JPEGLSLossless, ExplicitVRLittleEndian]
    with association(listener.port, [(CTImageStorage, [syntax]) for syntax in wanted]) as made:
        assert {context.transfer_syntax[0] for context in made.accepted_contexts} == {
            JPEGLSLossless, ExplicitVRLittleEndian,
        }  # fmt: skip


def test_too_little_space_refuses_before_anything_is_written(state, tmp_path, slices):
    with Listener(state, tmp_path, "[disk]\nmin_free_gb = 1").listening() as listener:
        object.__setattr__(listener.config.disk, "min_free_gb", 1e9)
        assert send(listener.port, slices[0]) == [0xA700]
        assert (listener.files(), listener.state.states()) == ([], [])
        object.__setattr__(listener.config.disk, "min_free_gb", 0.0)
        assert send(listener.port, slices[0]) == [0]


def test_a_disk_that_fills_up_refuses_so_that_the_peer_keeps_it(tmp_path):
    """In a process whose files may have 200 kB: the image doesn't fit, later the job table doesn't either."""
    port = free_port()
    (path,) = write_radiograph_phantom(tmp_path / "large", rows=400, columns=400)
    code = (
        "import resource, sys; from pathlib import Path; from tests.service.listening import Listener\n"
        "from tests.service.parts import State; import tests.service.listening as l\n"
        "folder = Path(sys.argv[1]); l.free_port = lambda: int(sys.argv[2])\n"
        "with Listener(State(folder / 'state'), folder).listening():\n"
        "    sys.stdin.readline(); resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "    print('full', flush=True); sys.stdin.readline()\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (1, 200_000)); print('fuller', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path), str(port)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        wait_for_port(port, process)
        for said in ("full\n", "fuller\n"):
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == said
            assert send(port, path) == [0xA700]
        process.stdin.write("\n")
        process.stdin.close()
        assert process.wait(20) == 0
    state = State(tmp_path / "state")
    assert state.states() == []
    assert list((state.root / "images").rglob("*.*")) == []
    state.database.close()


def test_an_archive_may_come_back_with_a_commitment(state, tmp_path):
    from pydicom.dataset import Dataset
    from pynetdicom import build_role

    push = "1.2.840.10008.1.20.1"
    words = '[[destination]]\nname = "a"\nhost = "h"\nae_title = "PACS"\nconfirm = "commitment"\n'
    answer = Dataset()
    answer.TransactionUID = generate_uid()
    there, missing = Dataset(), Dataset()
    there.ReferencedSOPInstanceUID, missing.ReferencedSOPInstanceUID = "9.1", "9.2"
    answer.ReferencedSOPSequence, answer.FailedSOPSequence = [there], [missing]
    with (
        Listener(state, tmp_path, words).listening() as listener,
        association(
            listener.port, [(push, [ImplicitVRLittleEndian])], calling="PACS", ext_neg=[build_role(push, scp_role=True)]
        ) as made,
    ):
        assert made.send_n_event_report(answer, 2, push, "1.2.840.10008.1.20.1.1")[0].Status == 0
        del answer.TransactionUID
        assert made.send_n_event_report(answer, 2, push, "1.2.840.10008.1.20.1.1")[0].Status == 0x0110
    assert [(there, missing) for _, there, missing in listener.committed] == [(["9.1"], ["9.2"])]


def test_a_port_in_use_is_named(listener):
    state = listener.state
    second = Receiver(listener.config, state.spool, state.database, state.jobs, lambda *_: None)
    with pytest.raises(AnomapError, match=f"E200 port {listener.port} can't be listened on"):
        second.start()
    second.stop()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=400), where=st.integers(0, 2000), mark=st.booleans())
def test_no_bytes_do_more_than_be_refused(data, where, mark, slices):
    """Random bytes, alone, behind a DICOM mark, and in the midst of a true header."""
    true = slices[0].read_bytes()[:2500]
    for content in (bytes(128) + b"DICM" + data if mark else data, true[:where] + data + true[where + len(data) :]):
        try:
            header = read_start(content)
        except AnomapError as error:
            assert error.code == "E102"  # noqa: PT017 (it need not fail)
        else:
            assert header.SOPInstanceUID
