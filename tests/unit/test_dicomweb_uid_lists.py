"""Several threads find out at the same time that a DICOMweb service takes no lists of UIDs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.model.study import Presence
from core.nodes.dicomweb.confirm import _Series

UIDS = ["1.1", "1.2", "1.3", "1.4"]


class Listing:
    """The answers to one question; the list is whole."""

    whole = True
    failure = None

    def __init__(self, uids: list[str]) -> None:
        self._uids = uids

    def __iter__(self) -> Iterator[dict[str, str]]:
        return iter([{"SOPInstanceUID": uid} for uid in self._uids])


class Service:
    """A node of a service that takes several UIDs for one that there is not."""

    takes_uid_lists: bool | None = None
    stored_lately = ()

    def listed(self, keys: Mapping[str, str], **_: Any) -> Listing:
        if keys["SOPInstanceUID"]:
            self.takes_uid_lists = False  # what another thread learns while this one waits for its answer
            return Listing([])
        return Listing(UIDS)

    def counted(self, *_: Any) -> int | None:
        return None


def test_what_another_thread_has_learned_meanwhile_makes_nothing_absent() -> None:
    series = _Series(Service(), "1", "1.0", None)  # type: ignore[arg-type]
    assert series._listed_of(UIDS) == dict.fromkeys(UIDS, Presence.PRESENT)
