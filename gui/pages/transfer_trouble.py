"""What needs a person, above the transfers: equal problems as one message with a count and the button that acts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from core.model.events import TransferRow
from core.model.views import FailureGroup
from gui import words
from gui.theme import Tone
from gui.widgets.banner import Action, Banner


@dataclass(frozen=True, slots=True)
class Problem:
    """One message, and the rows that it stands for."""

    lead: str
    next_step: str
    transfer_ids: tuple[int, ...]
    different: int = 0  # images that the destination holds with other content
    node: str = ""
    outcome: str = ""  # a name of its own, where the failure has one ("Not received in time")


def problems(groups: Sequence[FailureGroup], rows: Sequence[TransferRow]) -> list[Problem]:
    """Failures, then what is different at its destination.

    Parameters
    ----------
    groups : Sequence[FailureGroup]
        Most frequent first.
    rows : Sequence[TransferRow]
        Rows that need attention; those with conflicts are counted by destination.
    """
    found = [
        Problem(
            f"{words.plural(g.count, 'image')}: {g.failure.sentence}",
            g.failure.next_step,
            g.transfer_ids,
            outcome=words.FAILURE_WORDS.get(g.failure.code, ""),
        )
        for g in groups
    ]
    by_node: dict[str, list[TransferRow]] = {}
    for row in rows:
        if row.counts.conflict:
            by_node.setdefault(row.destination, []).append(row)
    for node, conflicting in by_node.items():
        number = sum(r.counts.conflict for r in conflicting)
        lead = f"{words.plural(number, 'image')}: {node} holds other content under the same UID."
        step = "Nothing was changed there. Look at the details, then replace or leave it."
        found.append(Problem(lead, step, tuple(r.id for r in conflicting), number, node))
    return found


class TroubleBanner(Banner):
    """Shows the first problem that was not put away.

    Attributes
    ----------
    retry : Signal(object)
        Transfers to try again.
    replace : Signal(object)
        A `Problem` whose images are to be replaced.
    details : Signal(object)
        A `Problem` to look at.
    """

    retry = Signal(object)
    replace = Signal(object)
    details = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._problems: list[Problem] = []
        self._away: set[str] = set()
        self.closed.connect(self._close_first)

    def tell(self, found: Sequence[Problem]) -> None:
        self._problems = list(found)
        # Put away is what was read: with another count it is news.
        self._away &= {p.lead for p in found}
        self._show()

    def _show(self) -> None:
        left = [p for p in self._problems if p.lead not in self._away]
        if not left:
            if not self.isHidden():
                self.put_away()
            return
        first = left[0]
        more = f" ({words.plural(len(left) - 1, 'other problem')}.)" if len(left) > 1 else ""
        if (self.lead, self.rest) == (first.lead, first.next_step + more):
            return
        act = (
            Action("Replace…", lambda: self.replace.emit(first))
            if first.different
            else Action("Try again", lambda: self._retry(first))
        )
        show = Action("Details", lambda: self.details.emit(first))
        self.say(first.lead, first.next_step + more, tone=Tone.AMBER, actions=(act, show))

    def _retry(self, problem: Problem) -> None:
        self._away.add(problem.lead)
        self._show()
        self.retry.emit(problem.transfer_ids)

    def _close_first(self) -> None:
        first = next((p for p in self._problems if p.lead not in self._away), None)
        if first is not None:
            self._away.add(first.lead)
        self._show()
