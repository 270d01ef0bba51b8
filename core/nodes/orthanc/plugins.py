"""Which plugins an Orthanc has, and where their part of the REST API begins (``/plugins``)."""

from __future__ import annotations

from core.nodes.orthanc.answers import text
from core.nodes.orthanc.rest import OrthancRest

DICOMWEB = "dicom-web"
DEFAULT_ROOT = "/dicom-web"
_NOT_FOR_US = (403, 404, 405)
_CLIENT = "/app/client"  # where the plugin's own page lies below its root


def dicomweb_root(rest: OrthancRest) -> str:
    """The path below which the DICOMweb services are ("/dicom-web"); empty where there is no such plugin.

    The plugin's option ``Root`` is told by the address of its page (``RootUri``, relative to ``/app``). A server
    that lets us see no plugins may have it all the same, at the usual place.
    """
    answer = rest.fetch("GET", "/plugins")
    if answer.status in _NOT_FOR_US:
        return DEFAULT_ROOT
    if DICOMWEB not in rest.parsed("/plugins", answer):
        return ""
    path = f"/plugins/{DICOMWEB}"
    found = rest.parsed(path, rest.fetch("GET", path))
    root, client, _ = (text(found, "RootUri") if isinstance(found, dict) else "").partition(_CLIENT)
    if not client:
        return DEFAULT_ROOT
    return "/" + "/".join(part for part in root.split("/") if part not in ("", ".", ".."))


def accelerated_peers(rest: OrthancRest) -> dict[str, str]:
    """State of each peer by the transfers accelerator (``/transfers/peers``); empty where there is no such plugin.

    "installed": it has the plugin as well; "bidirectional": it fetches by itself what it is to get;
    "disabled": it has none, or it doesn't answer.
    """
    path = "/transfers/peers"
    answer = rest.fetch("GET", path)
    if answer.status in _NOT_FOR_US:
        return {}
    found = rest.parsed(path, answer)
    if not isinstance(found, dict):
        rest.unexpected(path, "not an object")
    return {str(name): state for name, state in found.items() if isinstance(state, str)}
