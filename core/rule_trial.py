"""A rule tried on what nodes hold: how many studies it takes, which, and how sure that is. Nothing is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Protocol

from core.jobs.base import need
from core.jobs.discovery import study_tags, tags_for
from core.model.errors import FerryError
from core.model.rules import Rule
from core.model.rules.tags import SAME_IN_SERIES
from core.model.study import InstanceRef, Listing, StudyInfo, StudyQuery
from core.nodes.base import Inventory, Node
from core.wire.http import Abort

EXAMPLES = 12
_SAY_EVERY = 0.15  # seconds
_OF_EACH_SERIES = 4  # images, spread over it, where a rule looks at what may differ between them


class StudyLists:
    """What nodes listed, kept in memory so that another rule can be tried without asking them again."""

    def __init__(self) -> None:
        self._lists: dict[str, tuple[tuple[StudyInfo, ...], Listing]] = {}

    def studies(self, node: Inventory, name: str, most: int, abort: Abort) -> Iterator[StudyInfo | Listing]:
        """The studies of a node, of many one more than `most` at least; at the end how whole that is."""
        known = self._lists.get(name)
        if known is not None:
            yield from known[0]
            yield known[1]
            return
        listing = node.studies(StudyQuery(), abort=abort)
        found: list[StudyInfo] = []
        for study in listing:
            found.append(study)
            if len(found) > most:  # whoever looks at so many stops there
                self._lists[name] = tuple(found), Listing(len(found), False, "The list was not read to its end.")
            yield study
        self._lists[name] = tuple(found), listing.outcome
        yield listing.outcome


class Opens(Protocol):
    """What opens a node by its name: the node book."""

    def open(self, name: str) -> Node: ...


class Verdict(StrEnum):
    """What a rule says of a study."""

    ALL = "all"
    SOME = "some"  # some of its images
    NONE = "none"
    UNDECIDED = "undecided"  # that depends on its images, and these were not looked at


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """How far a trial looks.

    Attributes
    ----------
    studies : int
        Studies that are listed at most, of all sources together.
    looked_into : int
        Studies whose images are asked for where the rule can't be decided without them.
    every_image : bool
        All images of those are looked at, and not some of each series.
    """

    studies: int = 5_000
    looked_into: int = 40
    every_image: bool = False


@dataclass(frozen=True, slots=True)
class Example:
    """A study that was looked at.

    Attributes
    ----------
    taken, looked_at : int
        Of the images that were looked at; both 0 where none had to be.
    """

    study: StudyInfo
    source: str
    verdict: Verdict
    taken: int = 0
    looked_at: int = 0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A source that did not tell all that was asked: the sentence and the next step of its error."""

    source: str
    sentence: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found so far.

    Attributes
    ----------
    studies : int
        Looked at; the sum of the four that follow.
    wholly, partly, left, undecided : int
        Studies by their `Verdict`.
    looked_into : int
        Studies of which images were asked for.
    by_images : bool
        The rule looks at tags that differ from image to image, and the source's list of studies doesn't tell.
    sampled : bool
        Studies were judged by some of their images.
    bounded : bool
        There are more studies than were to be looked at.
    stopped : bool
        Somebody had it stopped.
    complete : bool
        Every source vouches for its list.
    reasons : tuple[str, ...]
        Why not, in sentences.
    matching, others : tuple[Example, ...]
        Some of them.
    """

    studies: int = 0
    wholly: int = 0
    partly: int = 0
    left: int = 0
    undecided: int = 0
    looked_into: int = 0
    by_images: bool = False
    sampled: bool = False
    bounded: bool = False
    stopped: bool = False
    complete: bool = True
    reasons: tuple[str, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    matching: tuple[Example, ...] = ()
    others: tuple[Example, ...] = ()

    @property
    def matched(self) -> int:
        """Studies of which something is taken."""
        return self.wholly + self.partly

    @property
    def certain(self) -> bool:
        """Whether that is the truth about all studies of the sources, and not of some."""
        sure = not (self.undecided or self.sampled or self.bounded or self.stopped)
        return sure and self.complete and not self.troubles


def try_rule(
    nodes: Opens,
    names: Sequence[str],
    rule: Rule,
    *,
    limits: TrialLimits | None = None,
    abort: Abort | None = None,
    progress: Callable[[Trial], None] | None = None,
    today: date | None = None,
    lists: StudyLists | None = None,
) -> Trial:
    """Hold a rule against the studies of some nodes. Blocking; `abort` ends it at once.

    Parameters
    ----------
    progress : Callable[[Trial], None] | None
        Called now and then with what was found so far.
    lists : StudyLists | None
        What the nodes listed before, and where it is kept.

    Raises
    ------
    FerryError
        None of the nodes could be asked; of several, one that could not is a `Trouble`.
    """
    trial = _Attempt(
        rule, limits or TrialLimits(), abort or Abort(), progress, today or date.today(), lists or StudyLists()
    )
    first: FerryError | None = None
    for name in names:
        if trial.ended:
            break
        try:
            node = nodes.open(name)
        except FerryError as error:
            trial.trouble(name, error)
            first = first or error
            continue
        try:
            trial.ask(node)
        except FerryError as error:
            if not trial.stop.aborted:
                trial.trouble(name, error)
                first = first or error
        finally:
            node.close()
    if first is not None and not trial.now.studies and len(trial.now.troubles) == len(names):
        raise first
    return replace(trial.now, stopped=trial.stop.aborted)


class _Attempt:
    """Adds up a trial, study by study."""

    def __init__(
        self,
        rule: Rule,
        limits: TrialLimits,
        stop: Abort,
        progress: Callable[[Trial], None] | None,
        today: date,
        lists: StudyLists,
    ) -> None:
        self.now = Trial()
        self.stop = stop
        self._rule = rule
        self._limits = limits
        self._progress = progress
        self._today = today
        self._lists = lists
        self._said = 0.0
        self._mute: set[str] = set()  # sources that don't tell what the rule looks at

    @property
    def ended(self) -> bool:
        return self.stop.aborted or self.now.bounded

    def trouble(self, name: str, error: FerryError) -> None:
        self.now = replace(self.now, troubles=(*self.now.troubles, Trouble(name, error.sentence, error.next_step)))

    def ask(self, node: Node) -> None:
        """All studies of a node, as far as the limits go."""
        need(node, Inventory)
        assert isinstance(node, Inventory)
        for study in self._lists.studies(node, node.name, self._limits.studies, self.stop):
            self.stop.check()
            if isinstance(study, Listing):
                if not study.complete:
                    reason = study.reason or f"{node.name} does not vouch for its list."
                    self.now = replace(self.now, complete=False, reasons=(*self.now.reasons, reason))
            elif self.now.studies >= self._limits.studies:
                self.now = replace(self.now, bounded=True)
                return
            else:
                self._count(self._judged(node, node.name, study))

    def _count(self, example: Example) -> None:
        n, verdict = self.now, example.verdict
        taken = verdict in (Verdict.ALL, Verdict.SOME)
        self.now = replace(
            n,
            studies=n.studies + 1,
            wholly=n.wholly + (verdict is Verdict.ALL),
            partly=n.partly + (verdict is Verdict.SOME),
            left=n.left + (verdict is Verdict.NONE),
            undecided=n.undecided + (verdict is Verdict.UNDECIDED),
            matching=(*n.matching, example) if taken and len(n.matching) < EXAMPLES else n.matching,
            others=(*n.others, example) if not taken and len(n.others) < EXAMPLES else n.others,
        )
        if self._progress is not None and time.monotonic() - self._said > _SAY_EVERY:
            self._said = time.monotonic()
            self._progress(self.now)

    # judging --------------------------------------------------------------------------------------------

    def _judged(self, node: Inventory, name: str, study: StudyInfo) -> Example:
        tags = study_tags(study)
        known = self._rule.verdict(tags, today=self._today)
        if known is None and study.modalities and "ModalitiesInStudy" in tags:
            each = [self._rule.verdict({**tags, "Modality": m}, today=self._today) for m in study.modalities]
            if None not in each:
                return Example(study, name, _of_parts(each))
        if known is not None:
            return Example(study, name, Verdict.ALL if known else Verdict.NONE)
        return self._looked_into(node, name, study, tags)

    def _looked_into(self, node: Inventory, name: str, study: StudyInfo, tags: Mapping[str, str]) -> Example:
        self.now = replace(self.now, by_images=True)
        if self.now.looked_into >= self._limits.looked_into or name in self._mute:
            return Example(study, name, Verdict.UNDECIDED)
        self.now = replace(self.now, looked_into=self.now.looked_into + 1)
        taken = looked_at = 0
        sampled = False
        try:
            for page, whole in self._pages(node, study):
                sampled |= not whole
                found = tags_for(self._rule, node, tags, page)
                taken += sum(self._rule.matches(t, today=self._today) for t in found)
                looked_at += len(page)
        except FerryError as error:
            self.stop.check()
            # The study that vanished meanwhile is one; a node that never tells this tag is the same for all.
            if error.code != "gone":
                self._mute.add(name)
                self.trouble(name, error)
            return Example(study, name, Verdict.UNDECIDED)
        self.now = replace(self.now, sampled=self.now.sampled or sampled)
        if not looked_at:
            return Example(study, name, Verdict.UNDECIDED)
        verdict = Verdict.ALL if taken == looked_at else Verdict.SOME if taken else Verdict.NONE
        return Example(study, name, verdict, taken, looked_at)

    def _pages(self, node: Inventory, study: StudyInfo) -> Iterator[tuple[Sequence[InstanceRef], bool]]:
        """The images to look at, and whether they tell all: every one, or some of each series."""
        pages = node.instances(study, digests=False, abort=self.stop)
        if self._limits.every_image:
            for page in pages:
                self.stop.check()
                yield page, True
            return
        series: dict[str, list[InstanceRef]] = {}
        for page in pages:
            for image in page:
                series.setdefault(image.series_uid, []).append(image)
        one_tells = self._rule.tags <= SAME_IN_SERIES
        for images in series.values():
            self.stop.check()
            step = len(images) if one_tells else max(1, len(images) // _OF_EACH_SERIES)
            yield images[::step][:_OF_EACH_SERIES], one_tells or len(images) <= _OF_EACH_SERIES


def _of_parts(each: Sequence[bool | None]) -> Verdict:
    if all(each):
        return Verdict.ALL
    return Verdict.SOME if any(each) else Verdict.NONE
