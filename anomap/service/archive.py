"""Archives: how a result gets there, and how we learn that it is there.

`send` returns when the archive has taken the object; `missing` and `ask` find out whether it keeps it.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from anomap.dicom.header import quiet
from anomap.errors import AnomapError
from anomap.service.settings import Destination
from anomap.service.sockets import client_context, secret

_COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"  # well-known SOP Instance (PS3.4 J.3.5)
_REQUEST_COMMITMENT = 1  # Action Type ID


class DicomArchive:
    """An archive that takes C-STORE.

    Args:
        destination: Its address.
        ae_title: Ours.

    Raises:
        AnomapError: E200 when its keys can't be used.
    """

    def __init__(self, destination: Destination, ae_title: str) -> None:
        self.destination, self.ae_title = destination, ae_title
        self._context = client_context(destination.tls)

    @contextmanager
    def session(self, sop_classes: Sequence[str]) -> Iterator[Any]:
        """An association for objects of some SOP classes.

        Raises:
            AnomapError: E600 when there is none; E601 when the archive accepts none of the SOP classes.
        """
        entity = AE(ae_title=self.ae_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.destination.timeout_s
        entity.connection_timeout = self.destination.timeout_s
        for sop_class in dict.fromkeys(sop_classes):
            entity.add_requested_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        place = self.destination
        tls = None if self._context is None else (self._context, place.host)
        try:
            association = entity.associate(place.host, place.port, ae_title=place.ae_title, tls_args=tls)
        except (OSError, ssl.SSLError) as error:
            raise AnomapError("E600", f"no association ({type(error).__name__})") from None
        if not association.is_established:
            if association.rejected_contexts:  # pynetdicom aborts when none is accepted
                names = sorted({UID(context.abstract_syntax).name for context in association.rejected_contexts})
                raise AnomapError("E601", f"the archive doesn't accept {', '.join(names)}")
            how = "rejects the association" if association.is_rejected else "gives no association"
            raise AnomapError("E600", f"the archive {how}")
        try:
            yield association
        finally:
            association.release()

    def send(self, association: Any, path: Path, sop_class: str) -> None:
        """Send one object.

        Raises:
            AnomapError: E601 when the archive refuses it; E600 when the association is lost.
        """
        if not any(context.abstract_syntax == sop_class for context in association.accepted_contexts):
            raise AnomapError("E601", f"the archive doesn't accept {UID(sop_class).name}")
        try:
            answer = association.send_c_store(dcmread(path))
        except (OSError, RuntimeError, ValueError) as error:
            raise AnomapError("E600", f"sending broke off ({type(error).__name__})") from None
        status = answer.get("Status")
        if status is None:
            raise AnomapError("E600", "the archive didn't answer")
        # Bxxx: stored, with a warning. 0111: it has an object of that UID; ours are the same whenever they are sent.
        if status not in (0x0000, 0x0111) and status & 0xF000 != 0xB000:
            raise AnomapError("E601", f"the archive answered with status 0x{status:04X}")

    def ask(self, transaction_uid: str, objects: Sequence[tuple[str, str]]) -> None:
        """Ask for storage commitment; the answer comes to our listener.

        Args:
            transaction_uid: By which the answer will be known.
            objects: (SOP Class UID, SOP Instance UID) of each.

        Raises:
            AnomapError: E600, E601 or E602 when it can't be asked.
        """
        request = Dataset()
        request.TransactionUID = transaction_uid
        request.ReferencedSOPSequence = []
        for sop_class, uid in objects:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            request.ReferencedSOPSequence.append(item)
        with self.session([StorageCommitmentPushModel]) as association:
            answer, _ = association.send_n_action(
                request, _REQUEST_COMMITMENT, StorageCommitmentPushModel, _COMMITMENT_INSTANCE
            )
        if answer.get("Status") != 0x0000:
            raise AnomapError("E602", "the archive refused the request for storage commitment")

    def echo(self) -> None:
        """Whether it is there (C-ECHO).

        Raises:
            AnomapError: E600 when it isn't.
        """
        with self.session([Verification]) as association:
            if association.send_c_echo().get("Status") != 0x0000:
                raise AnomapError("E600", "the archive doesn't answer a C-ECHO")


class WebArchive:
    """An archive that takes STOW-RS, or is asked by QIDO-RS.

    Args:
        destination: Its address and what it wants to know of us.

    Raises:
        AnomapError: E200 when a file with a secret can't be read.
    """

    def __init__(self, destination: Destination) -> None:
        import requests
        from dicomweb_client.api import DICOMwebClient

        self.destination = destination
        http = requests.Session()
        http.trust_env = False  # archives are near: no proxy, and no .netrc of whoever started the node
        if destination.authority is not None:
            http.verify = str(destination.authority)
        if destination.password_file is not None:
            words = destination.user, secret(destination.password_file)
            http.auth = requests.auth.HTTPBasicAuth(*(word.encode() for word in words))  # UTF-8: RFC 7617
        if destination.token_file is not None:
            http.headers["Authorization"] = f"Bearer {secret(destination.token_file)}"
        http.request = _with_time_limit(http.request, destination.timeout_s)  # type: ignore[method-assign]
        self._client = DICOMwebClient(destination.url, session=http)
        self._client.set_http_retry_params(retry=False)  # the outbox does that

    @contextmanager
    def session(self, sop_classes: Sequence[str]) -> Iterator[Any]:
        """Nothing to open; see `DicomArchive.session`."""
        yield None

    def send(self, session: Any, path: Path, sop_class: str) -> None:
        """Send one object.

        Raises:
            AnomapError: E601 when the archive refuses it; E600 when it isn't there.
        """
        with _web_errors("E601"), quiet():
            answer = self._client.store_instances([dcmread(path)])
        failed = answer.get("FailedSOPSequence")
        if failed:
            raise AnomapError("E601", f"the archive answered with reason 0x{failed[0].get('FailureReason', 0):04X}")

    def has(self, study_uid: str, uid: str) -> bool:
        """Whether the archive holds an object (QIDO-RS).

        Raises:
            AnomapError: E600 when it isn't there, E602 when it can't be asked.
        """
        with _web_errors("E602"), quiet():
            found = self._client.search_for_instances(
                study_instance_uid=study_uid, search_filters={"SOPInstanceUID": uid}
            )
        # An archive may ignore a filter and give the whole study: only the object itself counts.
        try:
            return any(uid in item.get("00080018", {}).get("Value", []) for item in found)
        except (AttributeError, TypeError):
            raise AnomapError("E602", "the archive's answer is no list of objects") from None


def _with_time_limit(request: Any, seconds: float) -> Any:
    """Requests waits for ever unless every call says otherwise."""

    def limited(*words: Any, **named: Any) -> Any:
        return request(*words, **{**named, "timeout": seconds})  # the client passes a None of its own

    return limited


@contextmanager
def _web_errors(code: str) -> Iterator[None]:
    """Say in our words what HTTP has to complain of: answers of archives may quote names."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        kind = code if 400 <= status < 500 else "E600"
        raise AnomapError(kind, f"the archive answered with HTTP status {status}") from None
    except (requests.RequestException, OSError) as error:
        raise AnomapError("E600", f"no connection ({type(error).__name__})") from None
