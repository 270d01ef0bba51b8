"""Testing an Orthanc node in named steps, each with what to do when it fails: `Diagnose`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import AnswerError
from core.nodes.orthanc.answers import number
from core.nodes.orthanc.base import OrthancBase
from core.nodes.orthanc.capabilities import Capabilities, read_capabilities
from core.nodes.orthanc.holdings import keeps_digests
from core.nodes.web.checklist import name_found, port_answers, walked
from core.nodes.web.trust import certificate_step

_NO_INSTANCE = "00000000-00000000-00000000-00000000-00000000"
STEPS = (
    "Name found",
    "Port answers",
    "Certificate trusted",
    "HTTP answers",
    "Login accepted",
    "Is an Orthanc",
    "May read",
    "May write",
    "May delete",
    "Digests in bulk",
    "Labels",
    "Plugins",
)


@dataclass
class _Seen:
    """What the steps so far found out."""

    capabilities: Capabilities | None = None
    counts: tuple[int, int] = (0, 0)
    keeps_digests: bool | None = None
    plugins: tuple[str, ...] = ()


class OrthancDiagnosis(OrthancBase):
    """`Diagnose` of an Orthanc."""

    _seen = _Seen()

    def diagnose(self) -> Iterator[DiagnosisStep]:
        """The steps of `STEPS`; what follows a failure that stands in its way is skipped."""
        self._seen = seen = _Seen()
        self.rest.forget()
        tests: list[tuple[str, Callable[[_Seen], DiagnosisStep]]] = [
            ("Name found", self._name_found),
            ("Port answers", self._port_answers),
        ]
        if self.fields.is_https:
            tests.append(("Certificate trusted", self._certificate_trusted))
        tests += [
            ("HTTP answers", self._http_answers),
            ("Login accepted", self._login_accepted),
            ("Is an Orthanc", self._is_an_orthanc),
            ("May read", self._may_read),
            ("May write", self._may_write),
            ("May delete", self._may_delete),
            ("Digests in bulk", self._digests_in_bulk),
            ("Labels", self._labels),
            ("Plugins", self._plugins),
        ]
        steps = [(name, functools.partial(test, seen)) for name, test in tests]
        return walked(steps, harmless=("May write", "May delete"))

    def facts(self) -> tuple[tuple[str, str], ...]:
        seen = self._seen
        found = [("kind", "orthanc")]
        if seen.capabilities is not None:
            can = seen.capabilities
            found += [
                ("version", can.version),
                ("api_version", str(can.api_version)),
                ("name", can.name),
                ("database_id", can.database_id),
                ("extended_find", _yes(can.extended_find)),
                ("labels", _yes(can.labels)),
                ("studies", str(seen.counts[0])),
                ("instances", str(seen.counts[1])),
                ("plugins", ", ".join(seen.plugins)),
            ]
        if seen.keeps_digests is not None:
            found.append(("digests", _yes(seen.keeps_digests)))
        return tuple(found)

    # --- the way there ---

    def _name_found(self, seen: _Seen) -> DiagnosisStep:
        fields = self.fields
        return name_found(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)

    def _port_answers(self, seen: _Seen) -> DiagnosisStep:
        fields = self.fields
        return port_answers(fields.host, fields.port, timeout=fields.connect_timeout, proxied=self.proxied)

    def _certificate_trusted(self, seen: _Seen) -> DiagnosisStep:
        return certificate_step(
            lambda: self.rest.fetch("GET", "/system"),
            host=self.fields.host,
            port=self.fields.port,
            tls=self.tls,
            timeout=self.fields.connect_timeout,
            proxied=self.proxied,
        )

    def _http_answers(self, seen: _Seen) -> DiagnosisStep:
        answer = self.rest.fetch("GET", "/system")
        if answer.status >= 500 or 300 <= answer.status < 400:
            raise self.rest.error("/system", answer.status, answer.headers, answer.body)
        return DiagnosisStep("HTTP answers", StepResult.OK, f"status {answer.status}")

    def _login_accepted(self, seen: _Seen) -> DiagnosisStep:
        answer = self.rest.fetch("GET", "/system")
        if answer.status in (401, 403, 407):
            error = self.rest.error("/system", answer.status, answer.headers, answer.body)
            step = error.next_step
            if answer.status == 401 and not self.fields.username and not self.fields.header_name:
                step = "The server wants a login: enter user name and password."
            return DiagnosisStep("Login accepted", StepResult.FAILED, error.sentence, step, error.detail)
        who = f"as {self.fields.username}" if self.fields.username else "without a user name"
        return DiagnosisStep("Login accepted", StepResult.OK, who)

    # --- what it is ---

    def _is_an_orthanc(self, seen: _Seen) -> DiagnosisStep:
        try:
            can = read_capabilities(self.rest.system())
        except AnswerError as error:
            return DiagnosisStep(
                "Is an Orthanc",
                StepResult.FAILED,
                "Something answers there, but it is not an Orthanc.",
                "Check host and port, and the path behind it if a proxy is in front; open the address in a browser.",
                error.detail,
            )
        seen.capabilities = can
        named = f" “{can.name}”" if can.name else ""
        return DiagnosisStep("Is an Orthanc", StepResult.OK, f"Orthanc {can.version}{named}")

    def _may_read(self, seen: _Seen) -> DiagnosisStep:
        found = self.rest.get_object("/statistics")
        studies, instances = number(found, "CountStudies") or 0, number(found, "CountInstances") or 0
        seen.counts = studies, instances
        return DiagnosisStep("May read", StepResult.OK, f"{studies} studies with {instances} images")

    def _may_write(self, seen: _Seen) -> DiagnosisStep:
        """An empty upload, which is refused as bad DICOM by a server that lets us write: nothing is stored."""
        if seen.capabilities is not None and seen.capabilities.read_only:
            return self._not_allowed("May write", "The server is read-only.")
        answer = self.rest.fetch("POST", "/instances")
        if answer.status in (401, 403, 405):
            return self._not_allowed("May write", "The server does not let this user store images.")
        if answer.status == 400:
            return DiagnosisStep("May write", StepResult.OK)
        error = self.rest.error("/instances", answer.status, answer.headers, answer.body)
        return DiagnosisStep(
            "May write", StepResult.WARNING, "It could not be told.", "Send a study to find out.", error.detail
        )

    def _may_delete(self, seen: _Seen) -> DiagnosisStep:
        """The deletion of an instance that can't exist."""
        if seen.capabilities is not None and seen.capabilities.read_only:
            return self._not_allowed("May delete", "The server is read-only.")
        answer = self.rest.fetch("DELETE", f"/instances/{_NO_INSTANCE}")
        if answer.status in (401, 403, 405):
            return self._not_allowed("May delete", "The server does not let this user delete images.")
        if answer.status == 404:
            return DiagnosisStep("May delete", StepResult.OK)
        error = self.rest.error("/instances", answer.status, answer.headers, answer.body)
        return DiagnosisStep("May delete", StepResult.WARNING, "It could not be told.", "", error.detail)

    @staticmethod
    def _not_allowed(name: str, finding: str) -> DiagnosisStep:
        """No failure of the node: it may serve as a source, or as a source that keeps everything."""
        purpose = "As a destination" if name == "May write" else "To move studies away from it"
        return DiagnosisStep(
            name, StepResult.WARNING, finding, f"{purpose} it needs this right; else nothing is to do."
        )

    # --- what it can do ---

    def _digests_in_bulk(self, seen: _Seen) -> DiagnosisStep:
        name = "Digests in bulk"
        can = seen.capabilities
        keeps_digests(self.rest)
        seen.keeps_digests = self.rest.keeps_digests
        if seen.keeps_digests is False:
            return DiagnosisStep(
                name,
                StepResult.WARNING,
                "The server keeps no digests: images are confirmed by their UIDs only.",
                "Set “StoreMD5ForAttachments” to true in the server's configuration; it holds for what comes after.",
            )
        if can is not None and can.extended_find:
            return DiagnosisStep(name, StepResult.OK, "100 images are confirmed with one question")
        return DiagnosisStep(name, StepResult.OK, "one by one (in bulk from Orthanc 1.12.5)")

    def _labels(self, seen: _Seen) -> DiagnosisStep:
        if seen.capabilities is not None and seen.capabilities.labels:
            return DiagnosisStep("Labels", StepResult.OK, "studies can be labelled")
        return DiagnosisStep("Labels", StepResult.OK, "not in this version (from Orthanc 1.12.0)")

    def _plugins(self, seen: _Seen) -> DiagnosisStep:
        answer = self.rest.fetch("GET", "/plugins")
        listed = self.rest.parsed("/plugins", answer) if answer.status == 200 else []
        seen.plugins = tuple(str(p) for p in listed) if isinstance(listed, list) else ()
        known = [
            title
            for key, title in (("dicom-web", "DICOMweb"), ("transfers", "transfers accelerator"))
            if key in seen.plugins
        ]
        return DiagnosisStep("Plugins", StepResult.OK, ", ".join(known) or "none of those that matter here")


def _yes(value: bool) -> str:
    return "yes" if value else "no"
