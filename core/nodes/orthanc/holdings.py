"""What an Orthanc holds under given SOP Instance UIDs, with its own digests, in as few requests as it allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.orthanc.answers import JsonObject, identifier, tags_of
from core.nodes.orthanc.describe import attachment, digest_and_size
from core.nodes.orthanc.identifiers import instance_id, study_id
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort

FIND_CHUNK = 100  # Orthanc's cost of a list of UIDs grows with its square: 0.06 ms each at 100, 0.23 ms at 1,000
PIPELINE_CHUNK = 200


def holdings(
    rest: OrthancRest,
    study: StudyInfo,
    instances: Sequence[InstanceRef],
    *,
    own: bool = False,
    abort: Abort | None = None,
) -> list[Holding]:
    """One `Holding` for each instance, in the order given.

    Parameters
    ----------
    own : bool
        Ask for exactly the server's own resource that `InstanceRef.ref` names; else for whatever it holds
        under the SOP Instance UID, in the study.
    """
    asked = [(one.ref if own and one.ref else expected_id(study, one), one) for one in instances]
    found: dict[str, Holding] = {}
    if rest.capabilities(abort=abort).extended_find:
        for chunk in _chunks(asked, FIND_CHUNK):
            _by_find(rest, study, chunk, found, own, abort)
    else:
        for chunk in _chunks(asked, PIPELINE_CHUNK):
            _by_identifier(rest, study, chunk, found, own, abort)
    return [found.get(ref) or Holding(one.sop_uid, Presence.ABSENT) for ref, one in asked]


def expected_id(study: StudyInfo, one: InstanceRef) -> str:
    """The identifier that an Orthanc gives to this instance: the same on all servers."""
    return instance_id(
        one.patient_id or study.patient_id, one.study_uid or study.study_uid, one.series_uid, one.sop_uid
    )


_Asked = tuple[str, InstanceRef]


def _by_find(
    rest: OrthancRest,
    study: StudyInfo,
    chunk: Sequence[_Asked],
    found: dict[str, Holding],
    own: bool,
    abort: Abort | None,
) -> None:
    """One question for the whole chunk. What it leaves open is asked for again until nothing more comes.

    A limit of the server (``LimitFindInstances``) cuts answers off silently, but never to nothing: only an
    empty answer tells that the rest is absent.
    """
    plain = [(ref, one) for ref, one in chunk if not set(one.sop_uid) & set("*?\\") and one.sop_uid]
    odd = [pair for pair in chunk if pair not in plain] if len(plain) < len(chunk) else []
    open_ = dict(plain)
    differing: list[_Asked] = []
    content = ["Attachments"]
    if any(one.digest is None for _, one in plain):
        content.append("Metadata")
    first = True
    while open_:
        rows = _find(rest, [one.sop_uid for one in open_.values()], "" if first else study.study_uid, content, abort)
        if not rows:
            break
        news = 0
        by_uid = {one.sop_uid: ref for ref, one in open_.items()} if not first and not own else {}
        for item in rows:
            actual = identifier(item)
            ref = (
                actual if actual in open_ else by_uid.get(tags_of(item, "MainDicomTags").get("SOPInstanceUID", ""), "")
            )
            one = open_.pop(ref, None)
            if one is None:
                continue
            news += 1
            holding = _holding(item, one, actual)
            found[ref] = holding
            if holding.transfer_syntax is None and "Metadata" not in content and differs(holding, one):
                differing.append((ref, one))
        if not first and not news:
            break
        first = False
        content = ["Attachments", "MainDicomTags", "Metadata"]
    if differing:
        rows = _find(rest, [one.sop_uid for _, one in differing], "", ["Attachments", "Metadata"], abort)
        by_id = {identifier(item): item for item in rows}
        for ref, one in differing:
            if ref in by_id:
                found[ref] = _holding(by_id[ref], one, ref)
    if odd:
        _by_identifier(rest, study, odd, found, True, abort)


def _find(
    rest: OrthancRest, uids: Sequence[str], study_uid: str, content: Sequence[str], abort: Abort | None
) -> list[JsonObject]:
    query = {"SOPInstanceUID": "\\".join(uids)}
    if study_uid:
        query["StudyInstanceUID"] = study_uid
    question = {"Level": "Instance", "Query": query, "ResponseContent": list(content)}
    return rest.post_list("/tools/find", question, abort=abort)


def _holding(item: JsonObject, one: InstanceRef, ref: str) -> Holding:
    digest, size = attachment(item)
    syntax = tags_of(item, "Metadata").get("TransferSyntax") or None
    return Holding(one.sop_uid, Presence.PRESENT, digest, size, syntax, ref)


def differs(holding: Holding, one: InstanceRef) -> bool:
    """Whether the transfer syntax is worth a question: the digests differ, or can't be compared here."""
    return holding.digest is None or one.digest is None or one.digest != holding.digest


def _by_identifier(
    rest: OrthancRest,
    study: StudyInfo,
    chunk: Sequence[_Asked],
    found: dict[str, Holding],
    own: bool,
    abort: Abort | None,
) -> None:
    """One small question for each instance, pipelined (before 1.12.5)."""
    others = False
    if not own:
        studies = lookup(rest, study.study_uid, "Study", abort)
        if not studies:
            return
        wanted = study_id(study.patient_id or (chunk[0][1].patient_id if chunk else ""), study.study_uid)
        others = any(s != wanted for s in studies)
    _ask_each(rest, chunk, found, abort)
    if others:  # the study is there under another patient ID: its instances have other identifiers
        for ref, one in chunk:
            if ref in found:
                continue
            for actual in lookup(rest, one.sop_uid, "Instance", abort):
                there: dict[str, Holding] = {}
                _ask_each(rest, [(actual, one)], there, abort)
                if actual in there:
                    found[ref] = there[actual]


def _ask_each(rest: OrthancRest, chunk: Sequence[_Asked], found: dict[str, Holding], abort: Abort | None) -> None:
    if rest.capabilities(abort=abort).attachment_info:
        paths = [f"/instances/{ref}/attachments/dicom/info" for ref, _ in chunk]
    else:
        paths = [f"/instances/{ref}/attachments/dicom/md5" for ref, _ in chunk]
    syntax: list[_Asked] = []
    for (ref, one), path, answer in zip(chunk, paths, rest.pipeline(paths, abort=abort), strict=True):
        if answer.status == 200 and path.endswith("/md5"):
            text = answer.body.decode("ascii", "replace").strip().lower()
            if len(text) != 32 or not set(text) <= set("0123456789abcdef"):
                rest.unexpected(path, "not an MD5")
            holding = Holding(one.sop_uid, Presence.PRESENT, text, None, None, ref)
        elif answer.status == 404:
            if rest.says_absent(path, answer) or rest.surely_absent(path, abort=abort):
                continue
            if not _is_held(rest, ref, abort):
                rest.refuse(path, answer.status, answer.headers, answer.body)
            holding = Holding(one.sop_uid, Presence.PRESENT, None, None, None, ref)  # keeps no MD5
        else:
            entry = rest.parsed(path, answer)
            if not isinstance(entry, dict):
                rest.unexpected(path, "not an attachment")
            digest, size = digest_and_size(entry)
            holding = Holding(one.sop_uid, Presence.PRESENT, digest, size, None, ref)
        found[ref] = holding
        if differs(holding, one):
            syntax.append((ref, one))
    if syntax:
        paths = [f"/instances/{ref}/metadata/TransferSyntax" for ref, _ in syntax]
        for (ref, _), answer in zip(syntax, rest.pipeline(paths, abort=abort), strict=True):
            uid = answer.body.decode("ascii", "replace").strip(" \0")
            if answer.status == 200 and uid and set(uid) <= set("0123456789."):
                found[ref] = replace(found[ref], transfer_syntax=uid)


def _is_held(rest: OrthancRest, ref: str, abort: Abort | None) -> bool:
    answer = rest.fetch("GET", f"/instances/{ref}", abort=abort)
    item = rest.parsed(f"/instances/{ref}", answer) if answer.status == 200 else None
    return isinstance(item, dict) and item.get("ID") == ref


def lookup(rest: OrthancRest, value: str, level: str, abort: Abort | None = None) -> list[str]:
    """Orthanc identifiers of the resources of a level ("Study", "Instance") with this DICOM identifier.

    ``POST /tools/lookup``; no limit of the server cuts it off.
    """
    answer = rest.fetch("POST", "/tools/lookup", body=value.encode(), abort=abort, idempotent=True)
    items = rest.parsed("/tools/lookup", answer)
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        rest.unexpected("/tools/lookup", "not a list of resources")
    return [identifier(item) for item in items if item.get("Type") == level]


def _chunks(asked: Sequence[_Asked], size: int) -> Iterator[Sequence[_Asked]]:
    for start in range(0, len(asked), size):
        yield asked[start : start + size]
