"""What all parts of the DICOMweb node share: its name, its fields, its services and what is known of its answers."""

from __future__ import annotations

from urllib.parse import quote

from core.model.diagnosis import Profile
from core.model.errors import FerryError
from core.model.outcome import Failure
from core.model.study import InstanceRef
from core.nodes.base import DicomwebAddress, Node
from core.nodes.dicomweb.access import DicomwebAccess
from core.nodes.dicomweb.fields import DicomwebFields
from core.nodes.dicomweb.reading_back import ReadingBack
from core.nodes.search.limit import AnswerLimit
from core.nodes.web.fields import place_of
from core.wire.status import http_failure
from core.wire.tls import TlsSettings

QUERY_LIMIT = "query-limit"
"""Fact of the last diagnosis: after so many answers the service cuts a list off."""


class DicomwebBase(Node):
    """Base of the capabilities of a DICOMweb node; each is a class of its own file.

    Attributes
    ----------
    access : DicomwebAccess
    tls : TlsSettings
    proxied : bool
        Requests go through the system's proxy.
    answer_limit : AnswerLimit
    stored_lately : tuple[InstanceRef, ...]
        Images that the service said to have stored: some of the last ones.
    reading_back : ReadingBack
    """

    fields: DicomwebFields

    def __init__(
        self,
        name: str,
        fields: DicomwebFields,
        access: DicomwebAccess,
        *,
        tls: TlsSettings,
        proxied: bool = False,
        profile: Profile | None = None,
    ) -> None:
        self.name = name
        self.fields = fields
        self.access = access
        self.tls = tls
        self.proxied = proxied
        self.stored_lately: tuple[InstanceRef, ...] = ()
        self.reading_back = ReadingBack()
        known = dict(profile.facts).get(QUERY_LIMIT, "") if profile is not None else ""
        self.answer_limit = AnswerLimit(fields.query_limit or (int(known) if known.isdigit() else 0))

    @property
    def place(self) -> str:
        host, port, path = place_of(self.fields.url)
        return f"{host}:{port}{path}"

    def dicomweb_address(self) -> DicomwebAddress:
        """`Stow`: where other servers send to, and whether they need a token of ours for that."""
        tokens = self.access.tokens
        return DicomwebAddress(
            self.fields.url,
            needs_token=tokens is not None,
            lends_to=self.fields.lend_to,
            token=tokens.header if tokens is not None else None,
        )

    def probe(self) -> None:
        """One question for one study."""
        path = "/studies?limit=1"
        with self.access.request("GET", path) as response:
            for _study in self.access.objects(path, response):
                break

    def close(self) -> None:
        self.access.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        return http_failure(error, side=side, node=self.name)

    def __repr__(self) -> str:
        return f"<DicomwebNode {self.name}>"


def study_path(study_uid: str) -> str:
    return f"/studies/{quote(study_uid, safe='')}"


def series_path(study_uid: str, series_uid: str) -> str:
    return f"{study_path(study_uid)}/series/{quote(series_uid, safe='')}"


def instance_path(study_uid: str, series_uid: str, sop_uid: str) -> str:
    """PS3.18 Table 10.1.1-1: an instance is named with its study and series."""
    return f"{series_path(study_uid, series_uid)}/instances/{quote(sop_uid, safe='')}"
