"""Testing a DICOMweb service in named steps, from the host's name to what it lets us do: `Diagnose`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import AnswerError, FerryError
from core.model.loading import load_pydicom
from core.model.study import InstanceRef
from core.nodes.dicomweb.base import QUERY_LIMIT, instance_path
from core.nodes.dicomweb.read import DicomwebRead
from core.nodes.dicomweb.sign_in import FIELD, SIGN_IN_REACHED, sign_in_reached
from core.nodes.search.answers import number
from core.nodes.web.checklist import Step, name_found, port_answers, walked
from core.nodes.web.trust import certificate_step
from core.wire.found import Answer as Found
from core.wire.http import Answer

_SEARCH = "/studies?limit=1"
_ELSEWHERE = ("/dicom-web", "/dicomweb", "/dicomWeb", "/rs", "/wado-rs", "/v2", "/v1")
"""Below the address of a server: Orthanc's, and what others call it by default."""
_NO_UID = "2.25.0"  # of no instance: a root that UUIDs make (PS3.5 section B.2), with the UUID that stands for none
_EMPTY_TYPE = 'multipart/related; type="application/dicom"; boundary=none'
_MOST_LISTED = 1000
_UNTAKEN = frozenset({404, 405, 501})
_HARMLESS = ("Gives images", "Takes images", "Deletes images")


@dataclass
class _Seen:
    """What the steps so far found out."""

    answer: Answer | None = None
    studies: list[Found] | None = None
    limit: int = 0
    encoding: str = ""
    takes: bool | None = None
    deletes: bool | None = None


class DicomwebDiagnosis(DicomwebRead):
    """`Diagnose` of a DICOMweb service."""

    _looked = _Seen()

    def diagnose(self) -> Iterator[DiagnosisStep]:
        """The way there, the login, and each of the services; nothing is stored or deleted by it."""
        self._looked = _Seen()
        fields = self.fields
        if self.access.tokens is not None:
            self.access.tokens.forget()
        steps: list[Step] = [("Name found", self._name_found), ("Port answers", self._port_answers)]
        if fields.is_https:
            steps.append(("Certificate trusted", self._certificate_trusted))
        if self.access.tokens is not None:
            steps.append((SIGN_IN_REACHED, self._sign_in_reached))
            steps.append(("Token given", self._token_given))
        steps += [
            ("HTTP answers", self._http_answers),
            ("Login accepted", self._login_accepted),
            ("Is DICOMweb", self._is_dicomweb),
            ("Lists studies", self._lists_studies),
            ("Gives images", self._gives_images),
            ("Takes images", self._takes_images),
            ("Deletes images", self._deletes_images),
        ]
        return walked(steps, harmless=_HARMLESS)

    def facts(self) -> tuple[tuple[str, str], ...]:
        seen = self._looked
        found = [("kind", "dicomweb"), ("address", self.fields.url)]
        if seen.studies is not None:
            found.append(("studies", str(len(seen.studies)) + ("+" if len(seen.studies) >= _MOST_LISTED else "")))
        if seen.limit:
            found.append((QUERY_LIMIT, str(seen.limit)))
        if seen.encoding:
            found.append(("gives", seen.encoding))
        rights = (("may_store", seen.takes), ("may_delete", seen.deletes))
        found += [(name, "yes" if may else "no") for name, may in rights if may is not None]
        return tuple(found)

    # --- the way there ---

    def _name_found(self) -> DiagnosisStep:
        fields = self.fields
        return name_found(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)

    def _port_answers(self) -> DiagnosisStep:
        fields = self.fields
        return port_answers(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)

    def _certificate_trusted(self) -> DiagnosisStep:
        fields = self.fields
        return certificate_step(
            lambda: self.access.pool.fetch("GET", _SEARCH),  # without a token: it is the certificate that is tried
            host=fields.host,
            port=fields.port,
            tls=self.tls,
            timeout=fields.connect_timeout,
            proxied=self.proxied,
        )

    def _sign_in_reached(self) -> DiagnosisStep:
        fields, tokens = self.fields, self.access.tokens
        assert tokens is not None
        title = type(fields).model_fields[FIELD].title or FIELD
        seconds = fields.connect_timeout
        return sign_in_reached(tokens, fields.oauth_url, title=title, timeout=seconds, proxied=self.proxied)

    def _token_given(self) -> DiagnosisStep:
        tokens = self.access.tokens
        assert tokens is not None
        tokens.header()
        left = tokens.seconds_left() or 0.0
        return DiagnosisStep("Token given", StepResult.OK, f"valid for {left / 60:.0f} minutes, renewed in time")

    def _http_answers(self) -> DiagnosisStep:
        answer = self._looked.answer = self.access.fetch("GET", _SEARCH)
        if answer.status >= 500 or 300 <= answer.status < 400:
            raise self.access.error(_SEARCH, answer.status, answer.headers, answer.body)
        return DiagnosisStep("HTTP answers", StepResult.OK, f"status {answer.status}")

    def _login_accepted(self) -> DiagnosisStep:
        name = "Login accepted"
        answer = self._looked.answer
        assert answer is not None
        fields = self.fields
        if answer.status in (401, 403, 407):
            error = self.access.error(_SEARCH, answer.status, answer.headers, answer.body)
            step = error.next_step
            if answer.status == 401 and not (fields.username or fields.header_name or self.access.tokens):
                step = "The service wants a login: enter user name and password, a bearer token, or a token service."
            return DiagnosisStep(name, StepResult.FAILED, error.sentence, step, error.detail)
        if self.access.tokens is not None:
            return DiagnosisStep(name, StepResult.OK, "by the token that was given")
        return DiagnosisStep(name, StepResult.OK, f"as {fields.username}" if fields.username else "without a user name")

    # --- what it is, and can do ---

    def _is_dicomweb(self) -> DiagnosisStep:
        name = "Is DICOMweb"
        try:
            self.probe()
        except AnswerError as error:
            if error.status not in (200, 400, 404, 405, 406, 410, 501):
                raise
            found = self._elsewhere()
            if found:
                return DiagnosisStep(
                    name,
                    StepResult.FAILED,
                    f"The DICOMweb services are not at this address, but at {found}.",
                    "Take over that address.",
                    error.detail,
                    fills=(("url", found),),
                )
            return DiagnosisStep(
                name,
                StepResult.FAILED,
                "Something answers there, but it is not a DICOMweb service.",
                "Check the path at the end of the address: it is what stands before “/studies”. For Orthanc it is "
                "/dicom-web, and its DICOMweb plugin has to be switched on.",
                error.detail,
            )
        return DiagnosisStep(name, StepResult.OK, "it answers searches in DICOM JSON")

    def _elsewhere(self) -> str:
        """Where below the address the services are; empty where they were not found."""
        for path in _ELSEWHERE:
            try:
                with self.access.request("GET", path + _SEARCH) as response:
                    if response.status == 204:
                        return self.fields.url + path
                    for _study in self.access.objects(path, response):
                        break
            except FerryError:
                continue
            return self.fields.url + path
        return ""

    def _lists_studies(self) -> DiagnosisStep:
        name = "Lists studies"
        listing = self.listed({"QueryRetrieveLevel": "STUDY"})
        studies = self._looked.studies = []
        for study in listing:
            studies.append(study)
            if len(studies) >= _MOST_LISTED:
                return DiagnosisStep(name, StepResult.OK, f"{len(studies)} and more, page by page")
        if listing.failure is not None or not listing.whole:
            self._looked.limit = len(studies)
            return DiagnosisStep(
                name,
                StepResult.WARNING,
                f"It lists {len(studies)} studies at once and gives no further page.",
                "Longer lists are asked for in parts, by date: that takes longer. Nothing is to do.",
                listing.failure.detail if listing.failure is not None else "",
            )
        return DiagnosisStep(name, StepResult.OK, f"{len(studies)} {'study' if len(studies) == 1 else 'studies'}")

    def _gives_images(self) -> DiagnosisStep:
        name = "Gives images"
        image = self._any_image()
        if image is None:
            return DiagnosisStep(name, StepResult.SKIPPED, "there is no image to try it with")
        try:
            with self.open(image) as stream:
                start = memoryview(bytearray(4096))
                count = stream.readinto(start)
                length = stream.length
        except AnswerError as error:
            if error.status not in (401, 403, 404, 405, 406, 501):
                raise
            purpose = "As a source it needs WADO-RS and the right to read; as a destination nothing is to do."
            return DiagnosisStep(name, StepResult.WARNING, error.sentence, purpose, error.detail)
        self._looked.encoding = _encoding(bytes(start[:count]))
        size = f"an image of {length / 1000:.0f} kB" if length is not None else "an image"
        return DiagnosisStep(name, StepResult.OK, f"{size}, as it is stored ({self._looked.encoding or 'unknown'})")

    def _any_image(self) -> InstanceRef | None:
        """The first image of a study that has any; of the smallest one, since it is only looked at."""
        studies = [s for s in self._looked.studies or () if s.get("StudyInstanceUID")]
        studies.sort(key=lambda s: number(s, "NumberOfStudyRelatedInstances") or 1 << 30)
        for study in studies[:3]:
            uid = study["StudyInstanceUID"]
            for series in self.listed({"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": uid}):
                keys = {
                    "QueryRetrieveLevel": "IMAGE",
                    "StudyInstanceUID": uid,
                    "SeriesInstanceUID": series.get("SeriesInstanceUID", ""),
                }
                for image in self.listed(keys) if keys["SeriesInstanceUID"] else ():
                    return InstanceRef(image.get("SOPInstanceUID", ""), keys["SeriesInstanceUID"], uid)
        return None

    def _takes_images(self) -> DiagnosisStep:
        """A request without a single image: a service that takes images answers that there is none."""
        name = "Takes images"
        answer = self.access.fetch("POST", "/studies", body=b"--none--\r\n", content_type=_EMPTY_TYPE)
        if answer.status in (401, 403):
            return self._not_allowed(name, "The service does not let this user store images.")
        if answer.status in _UNTAKEN:
            return self._not_allowed(name, "The service does not take images (STOW-RS).")
        self._looked.takes = True
        if answer.status < 500:
            return DiagnosisStep(name, StepResult.OK, "by STOW-RS")
        # Some stumble over a request without images; the first transfer tells more.
        error = self.access.error("/studies", answer.status, answer.headers, answer.body)
        self._looked.takes = None
        return DiagnosisStep(
            name, StepResult.WARNING, "It could not be told.", "Send a study to find out.", error.detail
        )

    def _deletes_images(self) -> DiagnosisStep:
        """The deletion of an instance that can't exist."""
        name = "Deletes images"
        answer = self.access.fetch("DELETE", instance_path(_NO_UID, _NO_UID, _NO_UID), accept="*/*")
        if answer.status in (401, 403):
            self._looked.deletes = False
            return DiagnosisStep(
                name,
                StepResult.WARNING,
                "The service does not let this user delete images.",
                "To move studies away from it this right is needed; else nothing is to do.",
            )
        if answer.status in (400, 405, 406, 501):
            self._looked.deletes = False  # as the standard has it: no fault of a service
            return DiagnosisStep(name, StepResult.OK, "not offered: studies can be sent from here, not moved away")
        if answer.status < 500:
            self._looked.deletes = True
            return DiagnosisStep(name, StepResult.OK, "as far as can be told without deleting anything")
        error = self.access.error("/studies", answer.status, answer.headers, answer.body)
        return DiagnosisStep(name, StepResult.WARNING, "It could not be told.", "", error.detail)

    def _not_allowed(self, name: str, finding: str) -> DiagnosisStep:
        """No failure of the node: it may serve as a source."""
        self._looked.takes = False
        return DiagnosisStep(
            name, StepResult.WARNING, finding, "As a destination it needs this; else nothing is to do."
        )


def _encoding(start: bytes) -> str:
    """Name of the transfer syntax of a file."""
    load_pydicom()
    from pydicom.uid import UID

    from core.wire.dimse.file_meta import NotAFileError, split_head

    try:
        return str(UID(split_head(start).transfer_syntax).name)
    except NotAFileError:
        return ""
