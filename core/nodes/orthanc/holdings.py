"""What an Orthanc holds under given SOP Instance UIDs, with its own digests, in as few requests as it allows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from core.model.study import Holding, InstanceRef, Presence, StudyInfo
from core.nodes.orthanc.answers import JsonObject, identifier, tags_of
from core.nodes.orthanc.describe import attachment, digest_and_size
from core.nodes.orthanc.identifiers import instance_id, series_id, study_id
from core.nodes.orthanc.rest import OrthancRest
from core.wire.http import Abort

FIND_CHUNK = 100  # Orthanc's cost of a list of UIDs grows with its square: 0.06 ms each at 100, 0.23 ms at 1,000
PIPELINE_CHUNK = 200
_SERIES_AT_LEAST = 20  # instances asked for of one series, from which on the whole series is the cheaper question
_SERIES_AT_MOST = 4  # times as many rows as were asked for: beyond, lists of UIDs are cheaper again


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
    if rest.capabilities(abort=abort).extended_find and not _wild(study.study_uid):
        _by_find(rest, study, asked, found, own, abort)
    else:
        for chunk in _chunks(asked, PIPELINE_CHUNK):
            _by_identifier(rest, study, chunk, found, own, abort)
    if found:
        rest.keeps_digests = any(holding.digest is not None for holding in found.values())
    return [found.get(ref) or Holding(one.sop_uid, Presence.ABSENT) for ref, one in asked]


def keeps_digests(rest: OrthancRest) -> bool:
    """Whether the server keeps MD5s (``StoreMD5ForAttachments``): as seen last, else told by any one instance."""
    if rest.keeps_digests is None:
        for ref in rest.get_identifiers("/instances?since=0&limit=1"):
            one = InstanceRef(sop_uid="?", series_uid="", study_uid="", ref=ref, digest="")
            found: dict[str, Holding] = {}
            _ask_each(rest, [(ref, one)], found, None)
            if found:
                rest.keeps_digests = found[ref].digest is not None
    return rest.keeps_digests is not False


def expected_id(study: StudyInfo, one: InstanceRef) -> str:
    """The identifier that an Orthanc gives to this instance: the same on all servers."""
    return instance_id(
        one.patient_id or study.patient_id, one.study_uid or study.study_uid, one.series_uid, one.sop_uid
    )


_Asked = tuple[str, InstanceRef]


def _by_find(
    rest: OrthancRest,
    study: StudyInfo,
    asked: Sequence[_Asked],
    found: dict[str, Holding],
    own: bool,
    abort: Abort | None,
) -> None:
    """``/tools/find`` with attachments (since 1.12.5): whole series where that is cheap, else lists of UIDs."""
    open_ = dict(asked)
    elsewhere = True  # may be held under other identifiers than those computed
    if not own:
        studies = rest.json(
            "POST",
            "/tools/find",
            payload={"Level": "Study", "Query": {"StudyInstanceUID": study.study_uid}},
            abort=abort,
            idempotent=True,
        )
        if not isinstance(studies, list):
            rest.unexpected("/tools/find", "not a list")
        if not studies:
            return
        patient_id = study.patient_id or (asked[0][1].patient_id if asked else "")
        elsewhere = studies != [study_id(patient_id, study.study_uid)]
    for series_ref, members in _by_series(study, asked).items():
        if len(members) >= _SERIES_AT_LEAST and series_ref not in rest.large_series:
            _whole_series(rest, series_ref, members, open_, found, elsewhere, abort)
    for chunk in _chunks(list(open_.items()), FIND_CHUNK):
        _by_uids(rest, study, chunk, found, own, elsewhere, abort)
    unlike = [(ref, one) for ref, one in asked if ref in found and differs(found[ref], one)]
    for chunk in _chunks([pair for pair in unlike if found[pair[0]].transfer_syntax is None], FIND_CHUNK):
        _add_syntax(rest, chunk, found, abort)


def _by_series(study: StudyInfo, asked: Sequence[_Asked]) -> dict[str, list[_Asked]]:
    uids: dict[tuple[str, str], list[_Asked]] = {}
    for pair in asked:
        uids.setdefault((pair[1].patient_id or study.patient_id, pair[1].series_uid), []).append(pair)
    return {
        series_id(patient_id, members[0][1].study_uid or study.study_uid, series_uid): members
        for (patient_id, series_uid), members in uids.items()
    }


def _whole_series(
    rest: OrthancRest,
    series_ref: str,
    members: Sequence[_Asked],
    open_: dict[str, InstanceRef],
    found: dict[str, Holding],
    elsewhere: bool,
    abort: Abort | None,
) -> None:
    """All that a series holds, unless it is much more than was asked for; takes out of `open_` what is settled."""
    limit = len(members) * _SERIES_AT_MOST
    question = {
        "Level": "Instance",
        "Query": {},
        "ParentSeries": series_ref,
        "ResponseContent": ["Attachments"],
        "Limit": limit,
    }
    rows = rest.post_list("/tools/find", question, abort=abort)
    for item in rows:
        ref = identifier(item)
        one = open_.pop(ref, None)
        if one is not None:
            found[ref] = _holding(item, one, ref)
    if len(rows) >= limit:
        rest.large_series.add(series_ref)


def _by_uids(
    rest: OrthancRest,
    study: StudyInfo,
    chunk: Sequence[_Asked],
    found: dict[str, Holding],
    own: bool,
    elsewhere: bool,
    abort: Abort | None,
) -> None:
    """One question for a list of SOP Instance UIDs; what it leaves open is asked for again until nothing more comes.

    A limit of the server (``LimitFindInstances``) cuts answers off silently, but never to nothing: only an
    empty answer tells that the rest is absent.
    """
    open_ = {ref: one for ref, one in chunk if one.sop_uid and not _wild(one.sop_uid)}
    odd = [(ref, one) for ref, one in chunk if ref not in open_]
    first = True
    while open_:
        uids = [one.sop_uid for one in open_.values()]
        rows = _find(rest, uids, "" if first else study.study_uid, elsewhere and not first, abort)
        by_uid = {one.sop_uid: ref for ref, one in open_.items()} if elsewhere and not own else {}
        news = 0
        for item in rows:
            actual = identifier(item)
            uid = tags_of(item, "MainDicomTags").get("SOPInstanceUID", "")
            ref = actual if actual in open_ else by_uid.get(uid, "")
            one = open_.pop(ref, None)
            if one is not None:
                news += 1
                found[ref] = _holding(item, one, actual)
        if not rows or (not first and not news):
            break
        first = False
    if odd:
        _by_identifier(rest, study, odd, found, True, abort)


def _add_syntax(rest: OrthancRest, chunk: Sequence[_Asked], found: dict[str, Holding], abort: Abort | None) -> None:
    """The transfer syntaxes of what is held with other bytes than the source's: re-encoded, or different?"""
    query = {"SOPInstanceUID": "\\".join(one.sop_uid for _, one in chunk)}
    question = {"Level": "Instance", "Query": query, "ResponseContent": ["Metadata"]}
    by_id = {identifier(item): item for item in rest.post_list("/tools/find", question, abort=abort)}
    for ref, _ in chunk:
        item = by_id.get(found[ref].ref)
        syntax = tags_of(item, "Metadata").get("TransferSyntax") if item is not None else None
        if syntax:
            found[ref] = replace(found[ref], transfer_syntax=syntax)


def _wild(uid: str) -> bool:
    """Whether the server would take a (broken) UID for a pattern or a list."""
    return bool(set(uid) & set("*?\\"))


def _find(
    rest: OrthancRest, uids: Sequence[str], study_uid: str, with_uids: bool, abort: Abort | None
) -> list[JsonObject]:
    query = {"SOPInstanceUID": "\\".join(uids)}
    if study_uid:
        query["StudyInstanceUID"] = study_uid
    content = ["Attachments", "MainDicomTags"] if with_uids else ["Attachments"]
    return rest.post_list("/tools/find", {"Level": "Instance", "Query": query, "ResponseContent": content}, abort=abort)


def _holding(item: JsonObject, one: InstanceRef, ref: str) -> Holding:
    digest, size = attachment(item)
    return Holding(one.sop_uid, Presence.PRESENT, digest, size, None, ref)


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
    items = rest.resources("/tools/lookup", rest.parsed("/tools/lookup", answer))
    return [identifier(item) for item in items if item.get("Type") == level]


def _chunks(asked: Sequence[_Asked], size: int) -> Iterator[Sequence[_Asked]]:
    for start in range(0, len(asked), size):
        yield asked[start : start + size]
