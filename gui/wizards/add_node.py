"""Adding or changing a node: its kind, its fields, and a test that runs before anything is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QWidget

from core.model.errors import FerryError
from core.model.fields import FormField, Suggestion, secret_fields
from core.model.node import NodeRecord
from gui.background import Operation
from gui.session import Session
from gui.wizards.add_node_pages import FieldsPage, KindPage, TestPage
from gui.wizards.frame import Wizard

if TYPE_CHECKING:
    from core.app import NodeKind, SecretsStatus


class AddNode(Wizard):
    """Adds a node, or changes `record`."""

    def __init__(self, session: Session, record: NodeRecord | None = None, parent: QWidget | None = None) -> None:
        super().__init__(f"Change {record.name}" if record else "Add node", parent)
        self.resize(900, 700)
        self.session = session
        self._record = record
        self._names: dict[str, str] = {}
        self._records: list[NodeRecord] = []
        self._kinds = session.app.node_kinds()
        self.kind_page = KindPage(self._kinds)
        self.fields_page = FieldsPage(self)
        self.test_page = TestPage(self)
        self.last_button = "Save"
        self._saving = False
        session.read(self, session.app.nodes.all, self._take_records)
        session.read(self, session.app.secrets.status, self._take_keyring)
        if record is not None:
            kind = self._kinds[record.kind]
            self.fields_page.show_kind(kind)
            self.fields_page.fill(record)
            session.read(self, lambda: self._saved_secrets(kind, record.name), self._mark_secrets)
            self.set_pages([self.fields_page, self.test_page])
        else:
            self.set_pages([self.kind_page, self.fields_page, self.test_page])

    def show_page(self, at: int) -> None:
        if self._record is None and self.pages and self.pages[at] is self.fields_page:
            self.fields_page.show_kind(self._kinds[self.kind_page.kind])
        super().show_page(at)

    # what is to be saved --------------------------------------------------------------------------------

    def draft(self) -> NodeRecord:
        form = self.fields_page.form
        assert form is not None
        kind = self._record.kind if self._record else self.kind_page.kind
        return NodeRecord(name=self.fields_page.name.text().strip() or kind, kind=kind, fields=form.values())

    def secrets(self) -> dict[str, str]:
        form = self.fields_page.form
        return form.secrets() if form is not None else {}

    def warnings(self) -> list[str]:
        draft = self.draft()
        secrets = self.secrets()
        if self._record is not None and not secrets:
            # A secret that is kept already would travel just the same as one that is typed now.
            secrets = dict.fromkeys(self._marked, "kept")
        found = self.session.app.nodes.warnings(draft.kind, draft.fields, secrets)
        if any(secrets.values()) and self._keyring is not None and not self._keyring.available:
            until = "The password is kept only until DICOM Ferry is closed."
            found = [*found, f"{until} {self._keyring.sentence} {self._keyring.next_step}"]
        return found

    def derived(self) -> tuple[tuple[str, str], ...]:
        """What follows from the fields as they are now."""
        draft = self.draft()
        return self.session.app.nodes.derived(draft.kind, draft.fields)

    _marked: tuple[str, ...] = ()
    _keyring: SecretsStatus | None = None

    def _take_keyring(self, status: SecretsStatus) -> None:
        self._keyring = status

    def name_problem(self, name: str) -> str:
        if self._record is not None:
            return ""
        taken = self._names.get(name.strip().casefold())
        return f"There is a node “{taken}” already. Choose another name." if taken else ""

    def _take_records(self, records: list[NodeRecord]) -> None:
        self._records = records
        self._names = {r.name.casefold(): r.name for r in records}
        if self.fields_page.form is not None:
            self.fields_page.form.set_nodes(self.nodes_for)

    def nodes_for(self, field: FormField) -> list[str]:
        """The nodes that a field may name: those with the trait that it asks for, and not this one itself."""
        own = self._record.name if self._record is not None else ""
        return [
            r.name
            for r in self._records
            if r.name != own
            and (not field.among or (r.kind in self._kinds and field.among in self._kinds[r.kind].traits))
        ]

    def look_up(self, kind: str, field: str) -> None:
        """Ask what the kind suggests for a field, by what the form holds now."""
        form = self.fields_page.form
        if form is None:
            return
        values, nodes = form.values(), self.session.app.nodes

        def found(suggestions: Sequence[Suggestion]) -> None:
            if form is self.fields_page.form:
                form.suggest(field, suggestions)

        def failed(error: Exception) -> None:
            if not isinstance(error, FerryError):
                self.banner.show_error(error)
            elif form is self.fields_page.form:
                form.suggest(field, error)

        Operation(self, lambda: nodes.suggestions(kind, field, values)).success(found).failure(failed).run()

    def _saved_secrets(self, kind: NodeKind, name: str) -> list[str]:
        return [f for f in secret_fields(kind.Fields) if self.session.app.nodes.has_secret(name, f)]

    def _mark_secrets(self, names: list[str]) -> None:
        self._marked = tuple(names)
        form = self.fields_page.form
        if form is not None:
            for name in names:
                form.mark_saved_secret(name)

    # saving ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        if self._saving:
            return
        self._saving = True
        self.next.setEnabled(False)
        draft, secrets, app = self.draft(), self.secrets(), self.session.app
        new = self._record is None

        def save() -> NodeRecord:
            saved = (
                app.nodes.add(draft.kind, draft.name, draft.fields, secrets)
                if new
                else app.nodes.edit(draft.name, draft.fields, secrets)
            )
            app.jobs.nodes_changed()
            return saved

        Operation(self, save).success(self._saved).failure(self._not_saved).run()

    def _saved(self, record: NodeRecord) -> None:
        self.session.nodes_edited.emit()
        self.done_with.emit(record)
        self.accept()

    def _not_saved(self, error: Exception) -> None:
        self._saving = False
        self.next.setEnabled(True)
        self.banner.show_error(error)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        # Return goes on; it must not save while a test still runs.
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and not self.next.isEnabled():
            return
        super().keyPressEvent(event)
