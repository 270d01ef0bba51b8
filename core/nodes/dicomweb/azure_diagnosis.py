"""Testing an Azure DICOM service in named steps, from the host's name to the right to store: `Diagnose`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import AnswerError
from core.nodes.dicomweb.azure_fields import ApiVersion, AzureFields
from core.nodes.dicomweb.base import DicomwebBase, instance_path
from core.nodes.dicomweb.sign_in import FIELD, SIGN_IN_REACHED, sign_in_reached
from core.nodes.web.checklist import Step, failed_step, name_found, port_answers, walked
from core.nodes.web.trust import certificate_step
from core.wire.http import Answer

_SEARCH = "/studies?limit=1"
_NO_UID = "2.25.0"  # of no instance: a root that UUIDs make (PS3.5 section B.2), with the UUID that stands for none
_EMPTY = 'multipart/related; type="application/dicom"; boundary=none'
_HARMLESS = ("May store", "May delete")


@dataclass
class _Seen:
    """What the steps so far found out."""

    answer: Answer | None = None
    token_seconds: float = 0.0
    may_store: bool | None = None
    may_delete: bool | None = None


class AzureDiagnosis(DicomwebBase):
    """`Diagnose` of an Azure DICOM service."""

    fields: AzureFields
    _seen = _Seen()

    def diagnose(self) -> Iterator[DiagnosisStep]:
        """The way to the service, the token, the application's role, the version, searching and storing."""
        self._seen = _Seen()
        fields = self.fields
        if self.access.tokens is not None:
            self.access.tokens.forget()
        steps: list[Step] = [
            ("Name found", self._name_found),
            ("Port answers", self._port_answers),
        ]
        if fields.is_https:
            steps.append(("Certificate trusted", self._certificate_trusted))
        steps += [
            (SIGN_IN_REACHED, self._sign_in_reached),
            ("Token given", self._token_given),
            ("Version known", self._version_known),
            ("Token accepted", self._token_accepted),
            ("Role allows searching", self._role_allows_searching),
            ("Answers searches", self._answers_searches),
            ("May store", self._may_store),
            ("May delete", self._may_delete),
        ]
        return walked(steps, harmless=_HARMLESS)

    def facts(self) -> tuple[tuple[str, str], ...]:
        seen = self._seen
        found = [("kind", "azure"), ("version", self.fields.api_version.value), ("address", self.fields.url)]
        if seen.token_seconds:
            found += [("token_seconds", f"{seen.token_seconds:.0f}"), ("scope", self.fields.scope)]
        rights = (("may_store", seen.may_store), ("may_delete", seen.may_delete))
        found += [(name, "yes" if may else "no") for name, may in rights if may is not None]
        return tuple(found)

    # --- the way there ---

    def _name_found(self) -> DiagnosisStep:
        fields = self.fields
        step = name_found(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)
        if step.result is not StepResult.FAILED or fields.service_url:
            return step
        return DiagnosisStep(
            step.name,
            StepResult.FAILED,
            step.finding,
            "Check workspace and service name against the “Service URL” in the Azure portal; also whether this "
            "computer reaches the internet.",
            step.detail,
        )

    def _port_answers(self) -> DiagnosisStep:
        fields = self.fields
        return port_answers(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)

    def _certificate_trusted(self) -> DiagnosisStep:
        return certificate_step(
            lambda: self.access.pool.fetch("GET", "/"),  # without a token: whom we talk to is not known yet
            host=self.fields.host,
            port=self.fields.port,
            tls=self.tls,
            timeout=self.fields.connect_timeout,
            proxied=self.proxied,
        )

    # --- the token ---

    def _sign_in_reached(self) -> DiagnosisStep:
        fields, tokens = self.fields, self.access.tokens
        assert tokens is not None
        title = AzureFields.model_fields[FIELD].title or FIELD
        seconds = fields.connect_timeout
        return sign_in_reached(tokens, fields.oauth_url, title=title, timeout=seconds, proxied=self.proxied)

    def _token_given(self) -> DiagnosisStep:
        tokens = self.access.tokens
        assert tokens is not None
        tokens.header()
        self._seen.token_seconds = tokens.seconds_left() or 0.0
        minutes = self._seen.token_seconds / 60
        return DiagnosisStep(
            "Token given",
            StepResult.OK,
            f"for {self.fields.scope.removesuffix('/.default')}, valid for {minutes:.0f} min",
        )

    # --- what it lets us do ---

    def _version_known(self) -> DiagnosisStep:
        """Routes without a version, or with an unknown one, are answered with 404 before anything else is looked at."""
        name = "Version known"
        self._seen.answer = answer = self.access.fetch("GET", _SEARCH)
        error = self._error(answer)
        if error is None or answer.status in (401, 403):
            return DiagnosisStep(name, StepResult.OK, f"{self.fields.api_version.value} at {self.fields.url}")
        if error.code == "azure-version":
            other = ApiVersion.V1 if self.fields.api_version is ApiVersion.V2 else ApiVersion.V2
            return DiagnosisStep(
                name,
                StepResult.FAILED,
                f"The service knows nothing at {self.fields.url}.",
                f"Choose {other.value} as version; if that fails too, check workspace and service name against the "
                "“Service URL” in the Azure portal.",
                error.detail,
            )
        raise error

    def _token_accepted(self) -> DiagnosisStep:
        answer = self._seen.answer
        assert answer is not None
        error = self._error(answer) if answer.status == 401 else None
        return failed_step("Token accepted", error) if error else DiagnosisStep("Token accepted", StepResult.OK)

    def _role_allows_searching(self) -> DiagnosisStep:
        answer = self._seen.answer
        assert answer is not None
        error = self._error(answer) if answer.status == 403 else None
        name = "Role allows searching"
        return failed_step(name, error) if error else DiagnosisStep(name, StepResult.OK)

    def _answers_searches(self) -> DiagnosisStep:
        name = "Answers searches"
        answer = self._seen.answer
        assert answer is not None
        error = self._error(answer)
        if error is not None:
            return failed_step(name, error)
        if answer.status == 204:
            return DiagnosisStep(name, StepResult.OK, "it holds no studies yet")
        return DiagnosisStep(name, StepResult.OK, "in pages of 200")

    def _may_store(self) -> DiagnosisStep:
        """An upload without an image, which is answered with 204 where we may store: nothing is stored."""
        name = "May store"
        answer = self.access.fetch("POST", "/studies", body=b"--none--\r\n", content_type=_EMPTY)
        if answer.status == 403:
            self._seen.may_store = False
            return self._role_lacks(name, "This application may read, but not store.", "As a destination")
        if answer.status in (200, 202, 204, 400, 409):
            self._seen.may_store = True
            return DiagnosisStep(name, StepResult.OK, "images of at most 4 GB, with explicit VR")
        error = self.access.error("/studies", answer.status, answer.headers, answer.body)
        return DiagnosisStep(
            name, StepResult.WARNING, "It could not be told.", "Send a study to find out.", error.detail
        )

    def _may_delete(self) -> DiagnosisStep:
        """The deletion of an instance that can't exist."""
        name = "May delete"
        path = instance_path(_NO_UID, _NO_UID, _NO_UID)
        answer = self.access.fetch("DELETE", path)
        if answer.status == 403:
            self._seen.may_delete = False
            return self._role_lacks(name, "This application may not delete.", "To move studies away from it")
        if answer.status in (204, 404):
            self._seen.may_delete = True
            return DiagnosisStep(name, StepResult.OK)
        error = self.access.error(path, answer.status, answer.headers, answer.body)
        return DiagnosisStep(name, StepResult.WARNING, "It could not be told.", "", error.detail)

    @staticmethod
    def _role_lacks(name: str, finding: str, purpose: str) -> DiagnosisStep:
        return DiagnosisStep(
            name,
            StepResult.WARNING,
            finding,
            f"{purpose} it needs the role “DICOM Data Owner” on the DICOM service (Access control, IAM).",
        )

    def _error(self, answer: Answer) -> AnswerError | None:
        """What an answer to the search means when it is none."""
        if answer.status == 204 or (answer.status == 200 and _is_list(answer.body)):
            return None
        return self.access.error(_SEARCH, answer.status, answer.headers, answer.body)


def _is_list(body: bytes) -> bool:
    try:
        return isinstance(json.loads(body), list)
    except (ValueError, RecursionError):
        return False
