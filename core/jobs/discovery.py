"""How transfers find what to carry: an inventory of what is there, and the change log for what arrives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from core.jobs.base import CursorReached, Discovery, Found, FoundStudy, InventoryDone, LeftOut
from core.model import clock
from core.model.errors import NotSupportedError
from core.model.job import Trigger
from core.model.rules import Rule
from core.model.study import ChangeKind, InstanceRef, StudyInfo, StudyQuery
from core.nodes.base import Follow, Inventory

INVENTORY_EVERY = 3600.0
TRANSFER_SYNTAX = "TransferSyntaxUID"
CHANGE_OF_TRIGGER = {
    Trigger.INSTANCE: ChangeKind.NEW_INSTANCE,
    Trigger.SERIES: ChangeKind.STABLE_SERIES,
    Trigger.STUDY: ChangeKind.STABLE_STUDY,
}


def discover(
    discovery: Discovery, *, rule: Rule, trigger: Trigger, poll: float, existing: bool, catch_up: bool = False
) -> Iterator[Found]:
    """Inventory first (where wanted and not done already in this pass), then what arrives, while following.

    `catch_up`: after each stop of ours the source is looked through once more behind its change log.
    """
    source = discovery.source
    cursor = discovery.cursor
    if discovery.follow and cursor is None:
        assert isinstance(source, Follow)
        cursor = source.cursor()  # taken before the inventory: what arrives during it is not missed
        yield CursorReached(cursor)
    if not discovery.inventoried:
        if existing or not discovery.follow:
            # With a filter everything is looked at again after a stop, so that what it leaves out is counted once.
            yield from inventory(
                discovery, rule, skip_listed=not rule.parts, only_stable=trigger if discovery.follow else None
            )
        else:
            yield InventoryDone(True)
    if discovery.follow:
        assert cursor is not None
        missed = catch_up and discovery.inventoried
        yield from _follow(discovery, cursor, rule, trigger, poll, existing, missed=missed)


def inventory(
    discovery: Discovery, rule: Rule, *, skip_listed: bool, only_stable: Trigger | None = None
) -> Iterator[Found]:
    """Everything that the source holds and the rule takes."""
    source = discovery.source
    assert isinstance(source, Inventory)
    listing = source.studies(StudyQuery(), abort=discovery.abort)
    for study in listing:
        if skip_listed and discovery.listed(study.study_uid) and not _has_grown(discovery, study):
            continue
        if only_stable in (Trigger.STUDY, Trigger.SERIES) and not _is_stable(source, study):
            continue  # its change log entry comes once it is stable
        yield from filtered(source, study, rule, discovery)
    yield InventoryDone(listing.outcome.complete, listing.outcome.reason)


def _has_grown(discovery: Discovery, study: StudyInfo) -> bool:
    """Whether the source tells of more images than were planned: they came while nobody read its change log."""
    planned = discovery.planned(study.study_uid)
    return planned is not None and study.instance_count is not None and study.instance_count > planned


def _is_stable(source: Inventory, study: StudyInfo) -> bool:
    return source.stable(Trigger.STUDY, study.ref) if isinstance(source, Follow) else True


def _follow(
    discovery: Discovery, cursor: int, rule: Rule, trigger: Trigger, poll: float, existing: bool, *, missed: bool
) -> Iterator[Found]:
    source = discovery.source
    assert isinstance(source, Follow)
    assert isinstance(source, Inventory)
    looked = clock.monotonic() - (INVENTORY_EVERY if missed else 0.0)
    pause = 0.0
    while discovery.wait(pause):
        page = source.changes(cursor, abort=discovery.abort)
        if page.reset:
            # The log was cleared or is another server's: only an inventory tells what we missed.
            cursor = source.cursor()
            yield from _once_more(inventory(discovery, rule, skip_listed=False, only_stable=trigger))
            yield CursorReached(cursor)
            looked = clock.monotonic()
            continue
        refs = [c.ref for c in page.changes if c.kind is CHANGE_OF_TRIGGER[trigger]]
        if trigger is Trigger.INSTANCE:
            for study, instances in source.describe(refs) if refs else ():
                yield from filtered(source, study, rule, discovery, [instances])
        else:
            for ref in dict.fromkeys(refs):
                yield from _stable(source, ref, rule, trigger, discovery)
        if page.last != cursor:
            cursor = page.last
            yield CursorReached(cursor)
        pause = poll if page.done else 0.0
        if existing and page.done and clock.monotonic() - looked >= INVENTORY_EVERY:
            # Finds what the change log no longer lists, or never did (a restart forgets what was not yet stable).
            looked = clock.monotonic()
            yield from _once_more(inventory(discovery, rule, skip_listed=True, only_stable=trigger))


def _once_more(found: Iterator[Found]) -> Iterator[Found]:
    """An inventory after the first: what the rule leaves out was counted then."""
    return (one for one in found if not isinstance(one, LeftOut))


def _stable(source: Follow, ref: str, rule: Rule, trigger: Trigger, discovery: Discovery) -> Iterator[Found]:
    assert isinstance(source, Inventory)
    if not source.stable(trigger, ref):
        return  # more has arrived meanwhile; another entry follows
    study = source.study_of(trigger, ref)
    if study is None:
        return
    series_ref = ref if trigger is Trigger.SERIES else ""
    yield from filtered(
        source, study, rule, discovery, source.instances(study, series_ref=series_ref, abort=discovery.abort)
    )


def filtered(
    source: Inventory,
    study: StudyInfo,
    rule: Rule,
    discovery: Discovery,
    pages: Iterator[Sequence[InstanceRef]] | list[Sequence[InstanceRef]] | None = None,
) -> Iterator[Found]:
    """What a rule takes of a study, or of the `pages` of it; what it leaves out is counted.

    A study that is left out whole by what its list tells is not asked for its images.
    """
    if pages is None:
        if study.instance_count is not None and rule.verdict(study_tags(study)) is False:
            if study.instance_count:
                yield LeftOut(study.instance_count)
            return
        pages = source.instances(study, abort=discovery.abort)
    if not rule.parts:
        yield FoundStudy(study, iter(pages))
        return
    kept = _Kept(source, study, rule, iter(pages))
    first = next(kept, None)
    if first is not None:
        yield FoundStudy(study, _chain(first, kept))
        for _rest in kept:
            pass  # a planner that was stopped leaves pages unread; then nothing is counted
    if kept.left_out:
        yield LeftOut(kept.left_out)


def _chain(first: Sequence[InstanceRef], rest: Iterator[Sequence[InstanceRef]]) -> Iterator[Sequence[InstanceRef]]:
    yield first
    yield from rest


class _Kept:
    """The pages of a study with only those instances that a rule takes; counts the others."""

    def __init__(self, source: Inventory, study: StudyInfo, rule: Rule, pages: Iterator[Sequence[InstanceRef]]) -> None:
        self.left_out = 0
        self._source = source
        self._rule = rule
        self._pages = pages
        self._study_tags = study_tags(study)

    def __iter__(self) -> _Kept:
        return self

    def __next__(self) -> Sequence[InstanceRef]:
        while True:
            page = next(self._pages)
            kept = self._take(page)
            self.left_out += len(page) - len(kept)
            if kept:
                return kept

    def _take(self, page: Sequence[InstanceRef]) -> list[InstanceRef]:
        tags = tags_for(self._rule, self._source, self._study_tags, page)
        return [ref for ref, t in zip(page, tags, strict=True) if self._rule.matches(t)]


def tags_for(
    rule: Rule, source: Inventory, of_study: Mapping[str, str], page: Sequence[InstanceRef]
) -> list[Mapping[str, str]]:
    """What a rule looks at, for each image of a page; the source is asked for what its lists did not tell."""
    tags: list[Mapping[str, str]] = [{**of_study, **image_tags(ref)} for ref in page]
    untold = frozenset(key for key in rule.tags - of_study.keys() if not all(key in t for t in tags))
    if untold:
        tags = [{**known, **t} for known, t in zip(tags, source.tags(page, untold), strict=True)]
    if TRANSFER_SYNTAX in rule.tags and not all(t.get(TRANSFER_SYNTAX) for t in tags):
        # Every image has one, so that none means that it wasn't told.
        raise NotSupportedError(
            f"{getattr(source, 'name', 'The source')} does not tell in which transfer syntax its images are.",
            "Filter by something else.",
            code="untold",
        )
    return tags


def study_tags(study: StudyInfo) -> dict[str, str]:
    """What a rule can look at without asking the source again: keyword → value. What it didn't tell is not in it."""
    tags = {
        "StudyInstanceUID": study.study_uid,
        "PatientName": study.patient_name,
        "PatientID": study.patient_id,
        "PatientBirthDate": study.birth_date,
        "PatientSex": study.sex,
        "StudyDate": study.study_date,
        "StudyTime": study.study_time,
        "StudyDescription": study.description,
        "AccessionNumber": study.accession,
    }
    if study.modalities:
        tags["ModalitiesInStudy"] = "\\".join(study.modalities)
    if study.instance_count is not None:
        tags["NumberOfStudyRelatedInstances"] = str(study.instance_count)
    return {**dict(study.tags), **{keyword: text for keyword, text in tags.items() if keyword not in study.untold}}


def image_tags(ref: InstanceRef) -> dict[str, str]:
    """As `study_tags`, of an image and its series."""
    own = {"SOPInstanceUID": ref.sop_uid, "SeriesInstanceUID": ref.series_uid}
    if ref.sop_class:
        own["SOPClassUID"] = ref.sop_class
    if ref.transfer_syntax:
        own["TransferSyntaxUID"] = ref.transfer_syntax
    if ref.series is not None:
        told = {
            "Modality": ref.series.modality,
            "SeriesDescription": ref.series.description,
            "SeriesNumber": ref.series.number,
        }
        own |= {keyword: text for keyword, text in told.items() if keyword not in ref.series.untold}
        if ref.series.instance_count is not None:
            own["NumberOfSeriesRelatedInstances"] = str(ref.series.instance_count)
    return own
