"""The frame of every wizard: steps named at the left, one page at a time, Back and Next below."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QDialog, QFrame, QHBoxLayout, QLabel, QScrollArea, QStackedWidget, QVBoxLayout, QWidget

from gui.icons import IconButton, IconLabel
from gui.theme import STEP, Role
from gui.widgets.banner import Banner
from gui.widgets.basics import clear, divider, label, restyle, row, scrolled


class WizardPage(QWidget):
    """One step.

    Attributes
    ----------
    changed : Signal()
        `complete` may have changed.
    """

    changed = Signal()
    step = ""  # its name in the list at the left
    title = ""
    hint = ""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(0, 0, 2 * STEP, 0)
        self.body.setSpacing(4 * STEP)

    def entered(self) -> None:
        """The page is shown."""

    def take_focus(self) -> None:
        """Give the keyboard to what is filled in first."""
        self.setFocus()

    def complete(self) -> bool:
        """Whether "Next" may be pressed."""
        return True

    def accept(self) -> bool:
        """ "Next" was pressed: check, show what is wrong, and say whether to go on."""
        return True

    def leave(self) -> None:
        """The page is left, in either direction, or the wizard is closed."""


class Wizard(QDialog):
    """A dialog of pages.

    Attributes
    ----------
    done_with : Signal(object)
        What the wizard made.
    """

    done_with = Signal(object)

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setModal(True)
        self.resize(860, 640)
        self.setMinimumSize(720, 480)
        outer = QHBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.setSpacing(0)
        self._rail = QFrame()
        self._rail.setObjectName("rail")
        self._rail.setFixedWidth(188)
        self._rail_layout = QVBoxLayout(self._rail)
        self._rail_layout.setContentsMargins(5 * STEP, 5 * STEP, 3 * STEP, 5 * STEP)
        self._rail_layout.setSpacing(3 * STEP)
        outer.addWidget(self._rail)
        right = QVBoxLayout()
        right.setContentsMargins(6 * STEP, 5 * STEP, 4 * STEP, 4 * STEP)
        right.setSpacing(2 * STEP)
        self.title = label("", "title", wrap=True)
        self.hint = label("", "soft", wrap=True)
        self.banner = Banner()
        self._stack = QStackedWidget()
        right.addWidget(self.title)
        right.addWidget(self.hint)
        right.addSpacing(2 * STEP)
        right.addWidget(self.banner)
        right.addWidget(self._stack, 1)
        right.addWidget(divider())
        right.addSpacing(STEP)
        self.buttons = row()
        self.cancel = IconButton("Cancel")
        self.back = IconButton("Back")
        self.next = IconButton("Next", kind="primary")
        self.cancel.clicked.connect(self.reject)
        self.back.clicked.connect(self.go_back)
        self.next.clicked.connect(self.go_on)
        self.cancel.setAutoDefault(False)
        self.back.setAutoDefault(False)
        self.next.setDefault(True)
        self.buttons.addWidget(self.cancel)
        self.buttons.addStretch(1)
        self.buttons.addWidget(self.back)
        self.buttons.addWidget(self.next)
        right.addLayout(self.buttons)
        outer.addLayout(right, 1)
        self.pages: list[WizardPage] = []
        self._areas: dict[WizardPage, QScrollArea] = {}
        self._marks: list[tuple[IconLabel, QLabel]] = []
        self._at = 0
        self.last_button = "Finish"

    def set_pages(self, pages: Sequence[WizardPage]) -> None:
        """Begin with these pages."""
        heading = label(self.windowTitle(), "strong", wrap=True)
        self._rail_layout.addWidget(heading)
        self._rail_layout.addSpacing(2 * STEP)
        self._steps = QVBoxLayout()
        self._steps.setSpacing(3 * STEP)
        self._rail_layout.addLayout(self._steps)
        self._rail_layout.addStretch(1)
        self.change_pages(pages)
        self.show_page(0)

    def change_pages(self, pages: Sequence[WizardPage]) -> None:
        """Go on with other pages; those that are left out keep what was entered, in case they come back."""
        if list(pages) == self.pages:
            return
        self.pages = list(pages)
        for page in self.pages:
            if page not in self._areas:
                self._areas[page] = scrolled(page)
                self._stack.addWidget(self._areas[page])
                page.changed.connect(self._refresh)
        clear(self._steps)
        self._marks.clear()
        for page in self.pages:
            line = row()
            mark = IconLabel("right", Role.SOFT, 16)
            name = label(page.step, "soft")
            line.addWidget(mark)
            line.addWidget(name, 1)
            self._steps.addLayout(line)
            self._marks.append((mark, name))

    @property
    def page(self) -> WizardPage:
        return self.pages[self._at]

    def show_page(self, at: int) -> None:
        self._at = at
        page = self.pages[at]
        self.banner.put_away()
        self._stack.setCurrentWidget(self._areas[page])
        page.entered()
        page.take_focus()
        for place, (mark, name) in enumerate(self._marks):
            done, now = place < at, place == at
            mark.set_icon_name("check" if done else "right", Role.GREEN if done else Role.ACCENT)
            mark.setEnabled(done or now)
            mark.setVisible(True)
            if not done and not now:
                mark.set_icon_name("right", Role.DISABLED)
            name.setProperty("text_role", "strong" if now else "soft")
            restyle(name)
        self._refresh()

    def go_on(self) -> None:
        page = self.page
        if not page.complete() or not page.accept():
            return
        page.leave()
        if self._at + 1 < len(self.pages):
            self.show_page(self._at + 1)
        else:
            self.finish()

    def go_back(self) -> None:
        if self._at:
            self.page.leave()
            self.show_page(self._at - 1)

    def finish(self) -> None:
        """The last page was accepted."""
        self.accept()

    def reject(self) -> None:
        for page in self.pages:
            page.leave()
        super().reject()

    def closeEvent(self, event: QCloseEvent) -> None:
        for page in self.pages:
            page.leave()
        super().closeEvent(event)

    def _refresh(self) -> None:
        page = self.page
        self.title.setText(page.title)
        self.hint.setText(page.hint)
        self.hint.setVisible(bool(page.hint))
        self.back.setVisible(self._at > 0)
        self.next.setText(self.last_button if self._at == len(self.pages) - 1 else "Next")
        self.next.setEnabled(page.complete())


class Choice(IconButton):
    """A card to choose by: an icon, a title and what it means."""

    def __init__(self, name: str, title: str, text: str, parent: QWidget | None = None) -> None:
        super().__init__("", "", parent, kind="choice")
        self.setCheckable(True)
        self.setAutoDefault(False)
        self.setAccessibleName(title)
        self.setAccessibleDescription(text)
        line = QHBoxLayout(self)
        line.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        line.setSpacing(4 * STEP)
        line.addWidget(IconLabel(name, Role.ACCENT, 26), 0, Qt.AlignmentFlag.AlignVCenter)
        texts = QVBoxLayout()
        texts.setSpacing(2)
        self._title = label(title, "strong")
        self._text = label(text, "small", wrap=True)
        for part in (self._title, self._text):
            part.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
            texts.addWidget(part)
        line.addLayout(texts, 1)
        self.setMinimumHeight(64)
        policy = self.sizePolicy()
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def heightForWidth(self, width: int) -> int:
        inner = max(120, width - 26 - 12 * STEP)
        return self._title.sizeHint().height() + self._text.heightForWidth(inner) + 7 * STEP

    def hasHeightForWidth(self) -> bool:
        return True
