"""Adding or changing a modality, a peer or a DICOMweb server of an Orthanc."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from PySide6.QtWidgets import QButtonGroup, QVBoxLayout, QWidget

from core.model.fields import form_fields
from core.model.remotes import LASTING, REMOTE_FIELDS, RemoteDraft, RemoteEntry, RemoteFields, RemoteKind
from gui.background import Operation
from gui.session import Session
from gui.theme import STEP
from gui.widgets.basics import label
from gui.widgets.form import Form
from gui.wizards.frame import Choice, Wizard, WizardPage

ICONS = {RemoteKind.MODALITY: "modality", RemoteKind.PEER: "peer", RemoteKind.DICOMWEB: "cloud"}


class RemoteKindPage(WizardPage):
    """Which list the entry is for."""

    step = "Kind"
    title = "What shall it know?"

    def __init__(self, server: str, kinds: Sequence[RemoteKind]) -> None:
        super().__init__()
        self.hint = f"{server} sends by itself only to what it knows."
        self.body.setSpacing(2 * STEP)
        self.group = QButtonGroup(self)
        self.choices: dict[RemoteKind, Choice] = {}
        for kind in kinds:
            choice = Choice(ICONS[kind], kind.heading, kind.summary)
            choice.clicked.connect(self.changed)
            self.group.addButton(choice)
            self.choices[kind] = choice
            self.body.addWidget(choice)
        self.body.addStretch(1)
        if self.choices:
            next(iter(self.choices.values())).setChecked(True)

    @property
    def kind(self) -> RemoteKind | None:
        return next((k for k, c in self.choices.items() if c.isChecked()), None)

    def complete(self) -> bool:
        return self.kind is not None


class RemoteFieldsPage(WizardPage):
    """The fields of the entry."""

    step = "Settings"

    def __init__(self) -> None:
        super().__init__()
        self.kind: RemoteKind | None = None
        self.form: Form | None = None
        self._place = QVBoxLayout()
        self.body.addLayout(self._place)
        self.lasting = label("", "small", wrap=True)
        self.body.addWidget(self.lasting)
        self.body.addStretch(1)

    def show_kind(self, kind: RemoteKind, server: str, *, name: str = "") -> None:
        """Make the form of this kind; `name` is of an entry that is changed, and stays."""
        if kind is self.kind:
            return
        self.kind = kind
        self.title = f"{kind.heading} “{name}” of {server}" if name else f"{kind.heading} of {server}"
        self.lasting.setText(LASTING[kind])
        if self.form is not None:
            self._place.removeWidget(self.form)
            self.form.deleteLater()
        model = REMOTE_FIELDS[kind]
        shown = [f.name for f in form_fields(model) if not (name and f.name == "name")]
        self.form = Form(model, names=shown, headings=True)
        if name:
            self.form.set_others({"name": name})
        self.form.changed.connect(self.changed)
        self._place.addWidget(self.form)

    def take_focus(self) -> None:
        if self.form is not None:
            next(iter(self.form.editors.values())).main.setFocus()

    def accept(self) -> bool:
        return self.form is not None and self.form.check()


class RemoteWizard(Wizard):
    """Adds an entry to a server, or changes `entry`; `draft` fills in one of our nodes.

    Parameters
    ----------
    kinds : Sequence[RemoteKind]
        The lists that the server has.
    """

    def __init__(
        self,
        session: Session,
        server: str,
        kinds: Sequence[RemoteKind],
        *,
        entry: RemoteEntry | None = None,
        draft: RemoteDraft | None = None,
        parent: QWidget | None = None,
    ) -> None:
        heading = f"Change {entry.name}" if entry is not None else f"What {server} knows"
        super().__init__(heading, parent)
        self._session = session
        self._server = server
        self._entry = entry
        self._draft = draft
        self._saving = False
        self.kind_page = RemoteKindPage(server, kinds)
        self.fields_page = RemoteFieldsPage()
        self.last_button = "Save"
        if entry is not None:
            self._fill(entry.kind, entry.fields, name=entry.name)
            self._say_untold(entry)
            self.set_pages([self.fields_page])
        elif draft is not None:
            self._fill(draft.kind, draft.fields)
            self.fields_page.hint = " ".join(draft.doubts)
            self.set_pages([self.fields_page])
        else:
            self.set_pages([self.kind_page, self.fields_page])

    def show_page(self, at: int) -> None:
        kind = self.kind_page.kind
        if self._entry is None and self._draft is None and self.pages[at] is self.fields_page and kind is not None:
            self.fields_page.show_kind(kind, self._server)
        super().show_page(at)

    def _fill(self, kind: RemoteKind, fields: Mapping[str, JsonValue], *, name: str = "") -> None:
        self.fields_page.show_kind(kind, self._server, name=name)
        assert self.fields_page.form is not None
        self.fields_page.form.set_values(fields)

    def _say_untold(self, entry: RemoteEntry) -> None:
        if not entry.untold or self.fields_page.form is None:
            return
        editors = self.fields_page.form.editors
        titles = " and ".join(editors[name].field.title.lower() for name in entry.untold if name in editors)
        self.fields_page.hint = f"The server does not tell its {titles}: enter it again to change anything."

    # saving ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        form, kind = self.fields_page.form, self.fields_page.kind
        if self._saving or form is None or kind is None:
            return
        self._saving = True
        self.next.setEnabled(False)
        fields, secrets = form.values(), form.secrets()
        remotes, server, entry, draft = self._session.app.remotes, self._server, self._entry, self._draft

        def save() -> RemoteFields:
            if entry is not None:
                return remotes.edit(server, kind, entry.name, fields, secrets)
            if draft is not None:
                return remotes.add_draft(server, draft, fields, secrets)
            return remotes.add(server, kind, fields, secrets)

        def saved(made: RemoteFields) -> None:
            self.done_with.emit((kind, made.name))
            self.accept()

        Operation(self, save).success(saved).failure(self._not_saved).run()

    def _not_saved(self, error: Exception) -> None:
        self._saving = False
        self.next.setEnabled(True)
        self.banner.show_error(error)
