"""What a failed job of an Orthanc says went wrong between it and a destination, in plain words."""

from __future__ import annotations

from core.model.errors import AnswerError, ConfigurationError, FerryError
from core.nodes.orthanc import jobs
from core.nodes.orthanc.answers import JsonObject, text
from core.nodes.orthanc.push_targets import PushTarget, PushWay

STOW, TRANSFER = "DicomWebStowClient", "PushTransfer"  # types of jobs
#: Codes of errors after which the destination is asked what it has before anything is sent again.
IN_DOUBT = frozenset({"push-token", "push-partly", "push-network", "push-transfer"})
_UNKNOWN, _REFUSED, _BAD_LOGIN, _NETWORK = 7, (8, 15), 29, 9  # Orthanc's error codes


def unknown_target(server: str, target: PushTarget, detail: str = "") -> ConfigurationError:
    """The server no longer knows what it was told to send to."""
    what = {PushWay.MODALITY: "modality", PushWay.STOW: "DICOMweb server"}.get(target.way, "peer")
    return ConfigurationError(
        f"“{server}” no longer knows the {what} “{target.name}”.",
        "Add it again in the settings of that server, or send through this computer.",
        detail=detail,
        code="push-target",
    )


def push_error(job: JsonObject, *, server: str, target: PushTarget | None, lent: bool = False) -> FerryError | None:
    """The error of a failed job, where it tells more than that; the detail is the job's own words.

    Parameters
    ----------
    server : str
        The name of the node that sent.
    target : PushTarget | None
        What it was told to send to, where that is still known.
    lent : bool
        A token of ours went along with the order.
    """
    kind = text(job, "Type")
    if kind == STOW:
        name = text(jobs.content_of(job), "Server")
        return _stow_error(job, server, target or (PushTarget(PushWay.STOW, name) if name else None), lent=lent)
    if kind == TRANSFER:
        return _transfer_error(job, server, target)
    return None


def _stow_error(job: JsonObject, server: str, target: PushTarget | None, *, lent: bool) -> FerryError | None:
    said, code = jobs.why_failed(job)
    entry = f"the DICOMweb server “{target.name}”" if target is not None else "the DICOMweb server"
    if code == _BAD_LOGIN and lent:
        return AnswerError(
            0,
            f"{_upper(entry)} did not take the token that “{server}” sent for this program.",
            "It is asked what it has, and the next order goes with a new token. If this lasts, test the node of that "
            "service, and see that its entry there has no login of its own.",
            detail=said,
            code="push-token",
        )
    if code == _BAD_LOGIN:
        return ConfigurationError(
            f"“{server}” was not let in by {entry}: its user name, password or token are not accepted there.",
            f"Correct them in the settings of “{server}” (Nodes, “Sends to”), or send through this computer.",
            detail=said,
            code="push-login",
        )
    if code == _UNKNOWN and target is not None:
        return unknown_target(server, target, said)
    low = said.lower()
    if "instances out of" in low or "sequence (0008,119" in low:
        return AnswerError(
            0,
            f"{_upper(entry)} did not take all images that “{server}” sent to it.",
            "It is asked which ones it has, and the others are sent again. If some are always refused, send through "
            "this computer: then each tells why.",
            detail=said,
            code="push-partly",
        )
    if code == _NETWORK or code in _REFUSED:
        return AnswerError(
            0,
            f"“{server}” could not bring the images to {entry}: no connection, no time left, or it was refused.",
            f"Test that entry in the settings of “{server}” (Nodes, “Sends to”): its address, its time limit, its "
            "certificate. The log of that server tells more.",
            detail=said,
            code="push-network",
        )
    return None


def _transfer_error(job: JsonObject, server: str, target: PushTarget | None) -> FerryError:
    name = text(jobs.content_of(job), "Peer") or (target.name if target is not None else "")
    peer = f"its peer “{name}”" if name else "its peer"
    said, code = jobs.why_failed(job)
    return AnswerError(
        0,
        f"“{server}” could not bring the images to {peer} by the transfers accelerator.",
        "Both servers need that plugin, and the peer's address and password have to be right; the log of "
        f"“{server}” tells more. Or choose another way in the node of “{server}” (“When it sends by itself”).",
        detail=f"{said} ({code})",
        code="push-transfer",
    )


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]
