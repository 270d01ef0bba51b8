"""Doing actions to the tags of a data set: for the step of that name, and for others that end with such actions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from core.model.rules import Rule
from core.steps import original, values
from core.steps.base import LargeValue, Step, StepError
from core.steps.tag_actions import WITH_VALUE, Action, TagPart, Verb, vr_of
from core.steps.where import takes

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

#: What stays when everything is removed that isn't kept: without it nobody could take, order or show the image.
ALWAYS = frozenset({0x00080005, 0x00080016, 0x00080018, 0x0020000D, 0x0020000E, 0x00020010})
ALWAYS_GROUPS = frozenset({0x0028, 0x5200, 0x7FE0})
PAST = {
    Verb.SET: "set",
    Verb.REPLACE: "replaced",
    Verb.PREFIX: "prefixed",
    Verb.SUFFIX: "lengthened",
    Verb.EMPTY: "emptied",
    Verb.REMOVE: "removed",
}


class Tags(Step):
    """Changes tags by rules. The former values of what it gives a value are noted, if wanted."""

    def __init__(self, actions: tuple[Action, ...], rule: Rule, *, notes: bool) -> None:
        self._actions = [a for a in actions if a.verb is not Verb.KEEP]
        self._kept = [a for a in actions if a.verb is Verb.KEEP]
        self._rule = rule
        self._notes = notes

    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        if not takes(self._rule, dataset):
            return ()
        before: dict[int, Any] = {}
        said: list[str] = []
        if self._kept and (count := self._keep_only(dataset)):
            said.append("1 other tag removed." if count == 1 else f"{count} other tags removed.")
        for action in self._actions:
            count = 0
            top = action.path[0].tag
            former = original.snapshot(dataset, top) if action.verb in WITH_VALUE and self._notes else None
            for item, tag in list(_found(dataset, action.path, create=action.verb is Verb.SET)):
                count += _do(action, dataset, item, tag)
            if not count:
                continue
            if former is not None:
                before.setdefault(top, former)
            many = f" ({count} times)" if count > 1 else ""
            said.append(f"{action.name} {PAST[action.verb]}{many}.")
        if before:
            original.note(dataset, before, "CORRECT")
        return tuple(said)

    def _keep_only(self, dataset: Dataset) -> int:
        tops, tags = [a.path[0] for a in self._kept], list(dataset.keys())
        gone = [
            tag
            for tag in tags
            if int(tag) not in ALWAYS and tag.group not in ALWAYS_GROUPS and not any(p.matches(int(tag)) for p in tops)
        ]
        # The creator of a private block stays with what stays of it (PS3.5 7.8.1).
        stays = {(tag.group, tag.element >> 8) for tag in tags if tag.is_private and tag not in gone}
        gone = [t for t in gone if not (t.is_private_creator and (t.group, t.element) in stays)]
        for tag in gone:
            del dataset[tag]
        return len(gone)


def _found(dataset: Dataset, path: tuple[TagPart, ...], *, create: bool) -> Iterator[tuple[Dataset, int]]:
    """Where a path leads: the data set or item, and the tag in it; with `create` also where the tag isn't there yet."""
    part = path[0]
    if len(path) > 1:
        element = dataset.get(part.tag)
        if element is None or element.VR != "SQ":
            return
        for number, item in enumerate(element.value or ()):
            if part.item in (None, number):
                yield from _found(item, path[1:], create=create)
    elif part.is_exact:
        if create or part.tag in dataset:
            yield dataset, part.tag
    else:
        yield from ((dataset, int(tag)) for tag in list(dataset.keys()) if part.matches(int(tag)) and tag.element)


def _do(action: Action, dataset: Dataset, item: Dataset, tag: int) -> int:
    """Do it at one place; 1 where that changed something."""
    if action.verb is Verb.REMOVE:
        if item is dataset and (tag in ALWAYS or tag >> 16 == 0x7FE0):
            return 0
        del item[tag]
        return 1
    element = item.get(tag)
    if action.verb is Verb.EMPTY:
        if item is dataset and (tag in ALWAYS or tag >> 16 == 0x7FE0):
            return 0
        assert element is not None
        if element.is_empty and not isinstance(element.value, LargeValue):
            return 0
        element.value = [] if element.VR == "SQ" else None
        return 1
    vr = element.VR if element is not None else vr_of(tag)
    if vr is None or vr not in values.TEXTS | values.INTEGERS.keys() | values.FLOATS:
        vr = vr_of(tag) or "UN"
    now = values.shown(element) if element is not None else None
    text = action.value
    if action.verb in (Verb.PREFIX, Verb.SUFFIX):
        if not now:
            return 0
        several = [now] if vr in values.WHOLE else now.split("\\")
        text = "\\".join(text + v if action.verb is Verb.PREFIX else v + text for v in several)
    if text == now:
        return 0
    wrong = values.fault(vr, text)
    if wrong:
        raise StepError(
            f"{action.name} can't get its new value: {wrong}.",
            "Correct the step, or leave out these images with “Only where”.",
            code="step-value",
        )
    if tag == values.CHARACTER_SET:
        values.recode(dataset, text)
    values.put(dataset, item, tag, vr, text, action.name)
    return 1
