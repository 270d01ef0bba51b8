"""Testing a DICOM node in named steps, each with what to do when it fails: `Diagnose`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError, TransportError, TransportFault
from core.nodes.dicom.asking import FIND_LIMIT
from core.nodes.dicom.profile import accepted_contexts, summary, text
from core.nodes.dicom.trials import DicomTrials, Found, Trial, failed, steps
from core.wire.dial import dial, look_up
from core.wire.dimse.association import AssociationRejected, Proposed
from core.wire.dimse.commitment import PUSH_MODEL
from core.wire.dimse.echo import ECHO_CONTEXTS, VERIFICATION, verify
from core.wire.dimse.identifier import EXPLICIT, IMPLICIT
from core.wire.dimse.retrieval import Model
from core.wire.tls import CertificateFacts, context, fetch_certificate, handshake

NAME, PORT, CERTIFICATE, ASSOCIATION = "Name found", "Port answers", "Certificate trusted", "Association accepted"
ECHO, STUDIES, IMAGES = "Answers the echo", "Lists studies", "Lists images"
LISTS, WHOLE, GET, MOVE = "Takes lists of UIDs", "Gives whole lists", "Gives images by C-GET", "Sends images here"
COMMITMENT, MATRIX = "Storage commitment", "Images it takes"

_SERVICES = {
    VERIFICATION: "C-ECHO",
    Model.STUDY_ROOT.find: "C-FIND",
    Model.STUDY_ROOT.get: "C-GET",
    Model.STUDY_ROOT.move: "C-MOVE",
    Model.PATIENT_ROOT.find: "C-FIND (Patient Root)",
    Model.PATIENT_ROOT.get: "C-GET (Patient Root)",
    Model.PATIENT_ROOT.move: "C-MOVE (Patient Root)",
    PUSH_MODEL: "storage commitment",
}


class DicomDiagnosis(DicomTrials):
    """`Diagnose` of a DICOM node."""

    _found = Found()

    def diagnose(self) -> Iterator[DiagnosisStep]:
        """The way there, then what the node can do; only what stands in the way of the rest lets it be skipped."""
        self._found = Found()
        way: list[tuple[str, Trial]] = [(NAME, self._name_found), (PORT, self._port_answers)]
        if self.fields.tls:
            way.append((CERTIFICATE, self._certificate_trusted))
        way.append((ASSOCIATION, self._association_accepted))
        abilities: list[tuple[str, Trial]] = [
            (ECHO, self._answers_the_echo),
            (STUDIES, lambda: self.lists_studies(STUDIES, self._found)),
            (IMAGES, lambda: self.lists_images(IMAGES, self._found)),
            (LISTS, lambda: self.takes_lists(LISTS, self._found)),
            (WHOLE, lambda: self.gives_whole_lists(WHOLE, self._found)),
            (GET, lambda: self.gives_images(GET, self._found)),
            (MOVE, lambda: self.sends_images_here(MOVE, self._found)),
            (COMMITMENT, self._storage_commitment),
            (MATRIX, self._images_it_takes),
        ]
        yield from steps(way, abilities)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What later runs go by: how images are fetched, which lists can be trusted, what is taken in."""
        found = self._found
        facts = [("kind", "dicom"), ("implementation", found.implementation)]
        facts.append(("services", ", ".join(found.services)))
        for name, value in (
            ("image-find", found.image_find),
            ("uid-lists", found.uid_lists),
            ("c-get", found.gets),
            ("c-move-here", found.moves_here),
            ("commitment", found.commitment),
        ):
            if value is not None:
                facts.append((name, "yes" if value else "no"))
        if found.retrieve:
            facts.append(("retrieve", found.retrieve))
        if found.find_limit:
            facts.append((FIND_LIMIT, str(found.find_limit)))
        facts += [group.as_fact(number) for number, group in enumerate(found.accepted, 1)]
        return tuple((name, value) for name, value in facts if value)

    # --- the way there ---

    def _name_found(self) -> DiagnosisStep:
        host = self.fields.host
        addresses = look_up(host, self.fields.port, timeout=self.fields.connect_timeout)
        return DiagnosisStep(NAME, StepResult.OK, f"{host} → {', '.join(addresses)}")

    def _port_answers(self) -> DiagnosisStep:
        began = time.perf_counter()
        sock = dial(self.fields.host, self.fields.port, timeout=self.fields.connect_timeout)
        took = (time.perf_counter() - began) * 1000
        self._found.our_address = str(sock.getsockname()[0])
        sock.close()
        return DiagnosisStep(PORT, StepResult.OK, f"{self.fields.port}/tcp in {took:.0f} ms")

    def _certificate_trusted(self) -> DiagnosisStep:
        host, port, seconds = self.fields.host, self.fields.port, self.fields.connect_timeout
        try:
            made = context(self.peer.tls)
            handshake(dial(host, port, timeout=seconds), host, port, made, timeout=seconds).close()
        except TransportError as error:
            shown = self._certificate() if error.fault is TransportFault.TLS else None
            if shown is None:
                return failed(CERTIFICATE, error)
            return DiagnosisStep(
                CERTIFICATE,
                StepResult.FAILED,
                f"{error.sentence} It shows: {shown.subject}, issued by {shown.issuer}, "
                f"valid to {shown.not_after:%Y-%m-%d}.",
                f"{error.next_step} Its fingerprint (SHA-256), for “Trusted certificate” (--pinned-certificate): "
                f"{shown.sha256}",
                f"SHA-256 {shown.sha256}\n{error.detail}",
                fills=(("pinned_certificate", shown.sha256),),
            )
        if self.fields.pinned_certificate:
            how = "it is exactly the certificate that was trusted for this node"
        elif self.fields.ca_file:
            how = f"signed by an authority in {self.fields.ca_file}"
        else:
            how = "signed by an authority that this computer knows"
        return DiagnosisStep(CERTIFICATE, StepResult.OK, how)

    def _certificate(self) -> CertificateFacts | None:
        """What the node shows, for a person to look at; None where even that can't be had."""
        try:
            return fetch_certificate(
                self.fields.host, self.fields.port, settings=self.peer.tls, timeout=self.fields.connect_timeout
            )
        except FerryError:
            return None

    def _association_accepted(self) -> DiagnosisStep:
        """With all services at once, so that one answer tells which of them are offered to us."""
        contexts = [Proposed(uid, (EXPLICIT, IMPLICIT)) for uid in _SERVICES]
        try:
            with self.associate(contexts) as association:
                accepted = [c.abstract_syntax for c in association.contexts]
                self._found.implementation = association.implementation
        except AssociationRejected as error:
            return self._rejected(error)
        except TransportError as error:
            return self._no_association(error)
        self._found.offered = frozenset(accepted)
        self._found.services = tuple(_SERVICES[uid] for uid in _SERVICES if uid in accepted)
        by = f" ({self._found.implementation})" if self._found.implementation else ""
        offered = ", ".join(self._found.services) or "none of the services asked for"
        return DiagnosisStep(
            ASSOCIATION, StepResult.OK, f"{self.fields.aet}{by} lets {self.fields.calling_aet} in; it offers {offered}"
        )

    def _rejected(self, error: AssociationRejected) -> DiagnosisStep:
        ours, theirs = self.fields.calling_aet, self.fields.aet
        said = (error.source, error.reason)
        if said == (1, 3):
            finding = f"The node does not know “{ours}”, our AE title."
            step = "Ask the PACS administrator to enter it there, or correct “Our AE title” of this node."
        elif said == (1, 7):
            finding = f"What listens there is not called “{theirs}”."
            step = "Ask the PACS administrator for its AE title (capitals matter), and correct it in this node."
        elif error.is_transient:
            finding = "The node takes no further association at the moment."
            step = "Test again later; if it stays so, ask the PACS administrator how many associations we may open."
        else:
            finding = error.sentence
            step = "Ask the PACS administrator to let it in: not every node says what it objects to."
        tell = self.for_the_administrator(self._found)
        if said == (1, 7):
            f, (_, _, ours_to_enter) = self.fields, tell.partition("\n")
            tell = (
                f"We call the DICOM node at {f.host}, port {f.port}, by the AE title “{theirs}”, and it answers that "
                f"it is not called that. Which AE title does it have?\nThis is who calls it:\n{ours_to_enter}"
            )
        return DiagnosisStep(ASSOCIATION, StepResult.FAILED, finding, step, error.detail, tell)

    def _no_association(self, error: TransportError) -> DiagnosisStep:
        """Something listens, but does not answer as a DICOM node should."""
        step = error.next_step
        if error.fault in (TransportFault.CUT, TransportFault.PROTOCOL, TransportFault.TIMEOUT):
            other = "switch TLS off" if self.fields.tls else "switch TLS on"
            step = (
                "Check that host and port are those of its DICOM service. If they are, it may let in only computers "
                f"that it knows: ask the PACS administrator to enter this one. Or {other} for this node."
            )
        return DiagnosisStep(
            ASSOCIATION,
            StepResult.FAILED,
            error.sentence,
            step,
            error.detail,
            self.for_the_administrator(self._found),
        )

    # --- what it can do ---

    def _answers_the_echo(self) -> DiagnosisStep:
        if VERIFICATION not in self._found.offered:
            return DiagnosisStep(ECHO, StepResult.WARNING, "It offers no C-ECHO, which every node should.")
        began = time.perf_counter()
        with self.associate(ECHO_CONTEXTS) as association:
            verify(association)
        return DiagnosisStep(ECHO, StepResult.OK, f"in {(time.perf_counter() - began) * 1000:.0f} ms")

    def _storage_commitment(self) -> DiagnosisStep:
        offered = self._found.commitment = PUSH_MODEL in self._found.offered
        if offered:
            return DiagnosisStep(COMMITMENT, StepResult.OK, "offered: it can vouch for what it has stored")
        return DiagnosisStep(COMMITMENT, StepResult.OK, "not offered; its lists of images are the evidence")

    def _images_it_takes(self) -> DiagnosisStep:
        began = time.perf_counter()
        count = 0

        def negotiate(contexts: Sequence[Proposed]) -> list[tuple[str, str]]:
            nonlocal count
            count += 1
            with self.associate(contexts) as association:
                return [(c.abstract_syntax, c.transfer_syntax) for c in association.contexts]

        groups = self._found.accepted = accepted_contexts(negotiate)
        if not any(group.transfer_syntaxes for group in groups):
            return DiagnosisStep(
                MATRIX,
                StepResult.WARNING,
                "It takes no images from us: it accepts no storage context.",
                "As a source nothing is to do. Else ask the PACS administrator to let this AE title store.",
            )
        took = time.perf_counter() - began
        return DiagnosisStep(
            MATRIX, StepResult.OK, summary(groups), detail=f"{text(groups)}\n({count} associations in {took:.1f} s)"
        )
