"""What an Orthanc can do, read from its /system; asked once and again after it was out of reach."""

from __future__ import annotations

from dataclasses import dataclass

from core.nodes.orthanc.answers import JsonObject, number, text


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The part of ``GET /system`` that decides how this server is asked.

    Attributes
    ----------
    version : str
        "1.12.7", or "mainline".
    api_version : int
        Grows by one with each change of the REST API: 16 is Orthanc 1.10.1.
    name : str
        The server's ``Name``.
    database_id : str
        ``DatabaseServerIdentifier`` (since 1.11.1): tells one database from another; else empty.
    extended_find : bool
        ``/tools/find`` takes ``ResponseContent``, ``ParentSeries`` and ``OrderBy`` (since 1.12.5, where the
        database allows).
    bulk_content : bool
        ``/tools/bulk-content`` is there (since 1.9.4).
    attachment_info : bool
        ``/attachments/dicom/info`` is there (since 1.10.1): size and MD5 in one answer.
    digest_with_file : bool
        ``/attachments/dicom/data`` says the file's MD5 as its ``ETag`` (since 1.9.2).
    labels : bool
        Labels (since 1.12.0).
    overwrites : bool | None
        ``OverwriteInstances``, where it says so.
    read_only : bool
    aet : str
        The server's own AE title.
    dicom_port : int
        Where it listens for DICOM; 0 where it doesn't say.
    """

    version: str
    api_version: int
    name: str = ""
    database_id: str = ""
    extended_find: bool = False
    bulk_content: bool = False
    attachment_info: bool = False
    digest_with_file: bool = False
    labels: bool = False
    overwrites: bool | None = None
    read_only: bool = False
    aet: str = ""
    dicom_port: int = 0


def read_capabilities(system: JsonObject) -> Capabilities:
    """Capabilities from the answer to ``GET /system`` of Orthanc 1.5 and later."""
    version = text(system, "Version")
    api_version = number(system, "ApiVersion") or 0
    numbers = version_numbers(version)
    listed = system.get("Capabilities")
    extended = isinstance(listed, dict) and listed.get("HasExtendedFind") is True
    overwrites = system.get("OverwriteInstances")
    return Capabilities(
        version=version,
        api_version=api_version,
        name=text(system, "Name"),
        database_id=text(system, "DatabaseServerIdentifier"),
        extended_find=extended,
        bulk_content=api_version >= 13 and numbers >= (1, 9, 4),
        attachment_info=api_version >= 16 and numbers >= (1, 10, 1),
        digest_with_file=numbers >= (1, 9, 2),
        labels=system.get("HasLabels") is True,
        overwrites=overwrites if isinstance(overwrites, bool) else None,
        read_only=system.get("ReadOnly") is True,
        aet=text(system, "DicomAet"),
        dicom_port=number(system, "DicomPort") or 0,
    )


def version_numbers(version: str) -> tuple[int, ...]:
    """ "1.12.7" → (1, 12, 7); what is built from the main line is newer than all."""
    numbers: list[int] = []
    for part in version.split("-")[0].split("."):
        if not part.isdigit():
            return (999,) if not numbers else tuple(numbers)
        numbers.append(int(part))
    return tuple(numbers)
