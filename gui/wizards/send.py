""" "New transfer…": from the question to the started job, with a dry run before anything is sent."""

from __future__ import annotations

from pydantic import JsonValue
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QGridLayout, QLineEdit, QVBoxLayout, QWidget

from core.app import Abort, App
from core.model.errors import FerryError
from core.model.everyone import KINDS, Everyone, Expanded
from core.model.job import JobRecord, TransferFields
from core.model.node import NodeRecord
from core.model.views import Preview
from gui import words
from gui.background import Operation
from gui.icons import IconButton
from gui.session import Session
from gui.theme import STEP, Tone
from gui.widgets.banner import Banner
from gui.widgets.basics import card, clear, label, row
from gui.widgets.pill import Pill
from gui.widgets.rule_trial import trying
from gui.wizards.frame import Wizard, WizardPage
from gui.wizards.gateway_page import GatewayPage
from gui.wizards.migrate_pages import HowPage, LimitsPage, StudiesPage
from gui.wizards.route_page import ASKING, NodeOption, RoutePage
from gui.wizards.send_pages import KindPage, WhatPage, WhenPage, placed_fields
from gui.wizards.steps_page import StepsPage


class SummaryPage(WizardPage):
    """What would move, how much, and what is there already; then the start."""

    step = "Summary"
    title = "Ready to start"

    def __init__(self, wizard: SendWizard) -> None:
        super().__init__()
        self._wizard = wizard
        self._run = 0
        self._abort: Abort | None = None
        self.preview: Preview | None = None
        self.counting = False
        self.refused = False
        self.problem = Banner(closable=False)
        self.body.addWidget(self.problem)
        self.facts_box = card()
        self._facts = QGridLayout(self.facts_box)
        self._facts.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        self._facts.setHorizontalSpacing(4 * STEP)
        self._facts.setVerticalSpacing(STEP)
        self._facts.setColumnStretch(1, 1)
        self.body.addWidget(self.facts_box)
        self.body.addWidget(self._build_counts())
        self.understood = QCheckBox()
        self.understood.toggled.connect(lambda _: self.changed.emit())
        self.body.addWidget(self.understood)
        name_box = QVBoxLayout()
        name_box.setSpacing(STEP)
        title = label("Name of the job", "strong")
        self.name = QLineEdit()
        self.name.setMaxLength(110)
        self.name.setAccessibleName("Name of the job")
        title.setBuddy(self.name)
        name_box.addWidget(title)
        name_box.addWidget(self.name)
        self.body.addLayout(name_box)
        self.body.addStretch(1)

    def _build_counts(self) -> QWidget:
        box = card()
        layout = QVBoxLayout(box)
        layout.setContentsMargins(4 * STEP, 3 * STEP, 4 * STEP, 3 * STEP)
        layout.setSpacing(STEP)
        head = row()
        self.counts = label("Counting…", "heading", wrap=True)
        self.stop = IconButton("Stop counting", kind="small")
        self.stop.clicked.connect(self._stop_counting)
        head.addWidget(self.counts, 1)
        self.found = Pill()
        self.found.hide()
        head.addWidget(self.found, 0, Qt.AlignmentFlag.AlignTop)
        head.addWidget(self.stop, 0, Qt.AlignmentFlag.AlignTop)
        layout.addLayout(head)
        self.more = label("", "soft", wrap=True)
        self.sample = label("", "small", wrap=True)
        self.doubt = label("", "warning", wrap=True, selectable=True)
        self.doubt.hide()
        layout.addWidget(self.more)
        layout.addWidget(self.doubt)
        layout.addWidget(self.sample)
        return box

    def entered(self) -> None:
        clear(self._facts)
        for at, (title, text) in enumerate(self._wizard.facts()):
            self._facts.addWidget(label(title, "soft"), at, 0, Qt.AlignmentFlag.AlignTop)
            self._facts.addWidget(label(text, wrap=True), at, 1)
        self.name.setPlaceholderText(self._wizard.suggested_name())
        self.understood.setVisible(self._wizard.deletes)
        self.understood.setChecked(False)
        self._name_deletion(None)
        self._count()

    def _name_deletion(self, preview: Preview | None) -> None:
        """What can't be undone says how many."""
        route = self._wizard.route
        images = "the images"
        if preview is not None:
            images = words.plural(preview.instances // max(1, preview.destinations), "image")
        where = self._wizard.standing.empties if self._wizard.stands else route.sources.chosen()
        text = f"Delete {images} at {', '.join(where)}, each once it is confirmed"
        self.understood.setText(text.replace("&", "&&"))

    def leave(self) -> None:
        self._run += 1
        if self._abort is not None:
            self._abort.abort()
            self._abort = None
        self.counting = False

    def complete(self) -> bool:
        return not self.refused and (not self._wizard.deletes or self.understood.isChecked())

    def _show_found(self, p: Preview, *, done: bool) -> None:
        """Whether the sources have told all that there is, and why perhaps not."""
        if done:
            text, tone = ("Complete", Tone.GREEN) if p.complete else ("Not proven complete", Tone.AMBER)
            self.found.show_state(text, tone)
        self.found.setVisible(done)
        self.doubt.setText(" ".join(t for t in (p.reason, *p.remarks) if t))
        self.doubt.setVisible(bool(self.doubt.text()))

    # dry run --------------------------------------------------------------------------------------------

    def _count(self) -> None:
        """Look at what there is, on a background thread; the person needn't wait for it."""
        self.leave()
        run = self._run
        self._abort = abort = Abort()
        self.counting, self.refused, self.preview = True, False, None
        self.stop.show()
        self.problem.put_away()
        self.counts.setText("Counting…")
        self.more.show()
        self.found.hide()
        self.doubt.hide()
        self.more.setText("Nothing is sent before you press Start; you need not wait for the count.")
        self.sample.setText("")
        kind, fields, follow = self._wizard.kind, self._wizard.fields(), self._wizard.follows
        jobs = self._wizard.session.app.jobs

        def work() -> Preview:
            jobs.check(kind, fields, follow=follow)
            return jobs.preview(kind, fields, abort=abort, progress=operation.report)

        def step(value: object) -> None:
            if run == self._run and isinstance(value, Preview):
                self._show(value, done=False)

        def done(value: Preview) -> None:
            if run == self._run:
                self.counting = False
                self.stop.hide()
                self.preview = value
                self._show(value, done=True)
                self._name_deletion(value)

        def failed(error: Exception) -> None:
            if run != self._run:
                return
            self.counting = False
            self.stop.hide()
            # A node that can't be reached now may be reached later; what the job's fields don't allow never works.
            self.refused = getattr(error, "exit_status", 1) == 2
            self.problem.show_error(error)
            self.counts.setText("Not counted")
            self.more.setText("" if self.refused else "You can start it all the same: it goes on when this is mended.")
            self.changed.emit()

        operation = Operation(self, work).progress(step).success(done).failure(failed)
        operation.run()
        self.changed.emit()

    def _stop_counting(self) -> None:
        self.leave()
        self.stop.hide()
        self.more.show()
        self.more.setText("The count was stopped; there is more than this.")

    def _show(self, p: Preview, *, done: bool) -> None:
        parts = [words.studies(p.studies), words.plural(p.instances, "image")]
        if p.bytes:  # a DICOM node doesn't tell how large its images are
            parts.append(words.size(p.bytes))
        amount = " · ".join(parts)
        self.counts.setText(amount if done else f"{amount} so far…")
        parts = []
        if p.already_there:
            parts.append(f"{words.count(p.already_there)} already there")
        if p.different:
            parts.append(f"{words.count(p.different)} different at the destination (shown, not replaced)")
        if p.left_out:
            parts.append(f"{words.count(p.left_out)} left out by the filter")
        if done and p.seconds is not None and p.seconds >= 1:
            parts.append(f"takes about {words.roughly(p.seconds)}")
        if done and not p.studies:
            parts.append("nothing to send now")
        self.more.setText(" · ".join(parts))
        self.more.setVisible(bool(parts))
        self._show_found(p, done=done)
        names = [s for s in p.sample[:4] if s]
        rest = p.studies - len(names)
        self.sample.setText("\n".join((*names, f"and {words.count(rest)} more" if names and rest > 0 else "")).strip())


def _option(app: App, record: NodeRecord) -> NodeOption:
    """A node with what it can do; one whose saved fields no longer fit is offered all the same: its error is told."""
    about = " · ".join(t for t in (app.nodes.kind(record).title, app.nodes.address(record)) if t)
    try:
        can = app.jobs.abilities(record.name)
    except FerryError as error:
        return NodeOption(record.name, about, (error.sentence,), (error.sentence,))
    everyone = tuple(str(Everyone(record.name, kind)) for kind in KINDS) if app.remotes.has_lists(record.name) else ()
    return NodeOption(record.name, about, can.as_source, can.as_destination, everyone)


class SendWizard(Wizard):
    """Makes a job and starts it."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__("New transfer", parent)
        self.session = session
        self._kinds = {n: k for n, k in session.app.job_kinds().items() if issubclass(k.Fields, TransferFields)}
        self._starting = False
        self.resize(940, 680)
        self.last_button = "Start"
        self.kind_page = KindPage(self._kinds)
        self.route = RoutePage()
        self.what = WhatPage()
        self.when = WhenPage()
        self.studies = StudiesPage(session)
        self.steps = StepsPage()
        self.standing = GatewayPage()
        self.how = HowPage(self)
        self.limits = LimitsPage(self)
        self.summary = SummaryPage(self)
        self.later = IconButton("Save for later")
        self.later.setAutoDefault(False)
        self.later.clicked.connect(lambda: self._create(start=False))
        self.buttons.insertWidget(self.buttons.count() - 1, self.later)
        self.route.nothing.acted.connect(self._add_node)
        for side in (self.route.sources, self.route.destinations):
            side.ticked.connect(self._probe)
        self.set_pages([self.kind_page, self.route, self.what, self.when, self.summary])
        self._read_nodes()

    @property
    def kind(self) -> str:
        return self.kind_page.kind

    @property
    def by_days(self) -> bool:
        """The kind takes its studies by a range of days or a list, and not by a rule."""
        return "date_from" in self._kinds[self.kind].Fields.model_fields

    @property
    def moves(self) -> bool:
        if self.stands:
            return self.standing.moves
        return self.how.moves if self.by_days else self.what.moves

    @property
    def deletes(self) -> bool:
        """Images are deleted where others have put them: that wants a second thought."""
        return bool(self.standing.empties) if self.stands else self.moves

    @property
    def stands(self) -> bool:
        """The kind is a gateway."""
        return self._kinds[self.kind].always_follows

    @property
    def follows(self) -> bool:
        return not self.by_days and self.when.follows

    def show_page(self, at: int) -> None:
        if at > 0:
            self._prepare()
        super().show_page(at)
        self.later.setVisible(self.page is self.summary)

    def _prepare(self) -> None:
        """The pages that the chosen kind has, and its fields on them."""
        kind = self._kinds[self.kind]
        fields = placed_fields(kind)
        if self.by_days:
            self.route.show_kind(fields, several=True)
            self.studies.show_kind(kind)
            self.studies.offer_trial(trying(self.session.app), self.route.sources.chosen())
            self.how.show_kind(kind)
            self.limits.show_kind(kind, self._several())
            self.limits.set_others(self.route.values() | self.studies.values() | self.how.values())
            self.change_pages([
                self.kind_page, self.route, self.studies, self.how, *self._step_pages(), self.limits, self.summary,
            ])  # fmt: skip
            return
        self.route.show_kind(fields, several="filter" in {f.name for f in fields})
        self.what.show_kind([f for f in fields if f.name != "after" or not self.stands])
        self.what.offer_trial(trying(self.session.app), self.route.sources.chosen())
        self.when.show_kind(kind, fields, self._several())
        self.when.set_others(self.route.values() | self.what.values())
        pages = [self.kind_page, self.route, self.what, *self._standing_pages(), *self._step_pages()]
        self.change_pages([*pages, self.when, self.summary])

    def _several(self) -> list[str]:
        """The destinations, where there are several that may differ in what is done for them."""
        chosen = [name for name in self.route.destinations.chosen() if Everyone.parse(name) is None]
        return chosen if len(self.route.destinations.chosen()) > 1 else []

    def _standing_pages(self) -> list[WizardPage]:
        if not self.stands:
            return []
        nodes = self.session.app.nodes
        listens = {name: nodes.kind(nodes.get(name)).listens for name in self.route.sources.chosen()}
        self.standing.show_kind(self._kinds[self.kind], placed_fields(self._kinds[self.kind]))
        own = [name for name, listening in listens.items() if listening]
        self.standing.show_sources(own, [name for name in listens if name not in own])
        self.standing.set_others(self.route.values() | self.what.values())
        return [self.standing]

    def _step_pages(self) -> list[WizardPage]:
        if "step" not in self._kinds[self.kind].Fields.model_fields:
            return []
        self.steps.offer(self.session.app, self.route.sources.chosen(), moves=self.moves)
        return [self.steps]

    def _step_values(self) -> dict[str, JsonValue]:
        return self.steps.values() if self.steps in self.pages else {}

    def _read_nodes(self) -> None:
        app = self.session.app

        def read() -> list[NodeOption]:
            return [_option(app, record) for record in app.nodes.all()]

        self.session.read(self, read, self.route.show_nodes)

    def _probe(self, name: str) -> None:
        """Whether a node answers is said where it is chosen; a job may be made all the same."""
        self.route.tell_answer(name, ASKING, "small")
        if Everyone.parse(name) is not None:
            self._ask_for_everyone(name)
            return
        nodes = self.session.app.nodes

        def ask() -> None:
            node = nodes.open(name)
            try:
                node.probe()
            finally:
                node.close()

        def failed(error: Exception) -> None:
            sentence, next_step, _detail = words.sentence_of(error)
            self.route.tell_answer(name, f"{sentence} {next_step}", "error")

        answered = Operation(self, ask).success(lambda _: self.route.tell_answer(name, "It answers.", "good"))
        answered.failure(failed).run()

    def _ask_for_everyone(self, name: str) -> None:
        """Whom a destination stands for now; nothing is made of them before the job starts."""
        book, sources = self.session.app.everyone, self.route.sources.chosen()

        def told(now: Expanded) -> None:
            names = [*now.names, *(f"{one} (becomes a node)" for one in now.to_come)]
            text = f"Now: {', '.join(names)}." if names else "There is none."
            bad = now.left_out or not names
            self.route.tell_answer(name, f"{text} {now.left_out}".strip(), "error" if bad else "good")

        def failed(error: Exception) -> None:
            sentence, next_step, _detail = words.sentence_of(error)
            self.route.tell_answer(name, f"{sentence} {next_step}", "error")

        asked = Operation(self, lambda: book.expanded([name], sources, register=False))
        asked.success(told).failure(failed).run()

    def _add_node(self) -> None:
        self.reject()
        self.session.going.emit("nodes", "add")

    # what is to be made ---------------------------------------------------------------------------------

    def fields(self) -> dict[str, JsonValue]:
        if self.by_days:
            found = self.limits.values() | self.how.values() | self.route.values() | self.studies.values()
        else:
            found = self.when.values() | self.route.values() | self.what.values()
            if self.stands:
                found |= self.standing.values()
        return found | self._step_values()

    def facts(self) -> list[tuple[str, str]]:
        """The choices in words."""
        kind = self._kinds[self.kind]
        found = [
            ("From", ", ".join(self.route.sources.chosen())),
            ("To", ", ".join(self.route.destinations.chosen())),
        ]
        if self.by_days:
            steps = self._step_facts()
            return [*found, ("Which", self.studies.sentence()), *self.how.facts(), *steps, *self.limits.facts()]
        fallback = self.route.values().get("fallback")
        if fallback:
            found.append(("Instead", f"{fallback}, when a destination is down"))
        found.append(("What", self.what.in_words() if "filter" in kind.Fields.model_fields else "Everything"))
        if self.stands:
            found += self.standing.facts()
        elif "after" in kind.Fields.model_fields:
            text = "Deleted once confirmed at every destination" if self.what.moves else "Kept"
            found.append(("At the source", text))
        found += self._step_facts()
        found.append(("When", self.when.sentence()))
        return found

    def _step_facts(self) -> list[tuple[str, str]]:
        return [("On the way", self.steps.sentence())] if self._step_values().get("step") else []

    def suggested_name(self) -> str:
        title = self._kinds[self.kind].title
        sources, destinations = self.route.sources.chosen(), self.route.destinations.chosen()
        return f"{title} {', '.join(sources)} to {', '.join(destinations)}"[:110]

    # making ---------------------------------------------------------------------------------------------

    def finish(self) -> None:
        self._create(start=True)

    def _create(self, *, start: bool) -> None:
        if self._starting:
            return
        self._starting = True
        self.next.setEnabled(False)
        self.later.setEnabled(False)
        kind, fields, follow = self.kind, self.fields(), self.follows
        name, jobs = self.summary.name.text().strip(), self.session.app.jobs
        self.summary.leave()

        def make() -> JobRecord:
            return jobs.create(kind, fields, name=name, follow=follow, start=start)

        Operation(self, make).success(self._made).failure(self._refused).run()

    def _made(self, job: JobRecord) -> None:
        self.session.jobs_edited.emit()
        self.done_with.emit(job)
        self.accept()

    def _refused(self, error: Exception) -> None:
        self._starting = False
        self.next.setEnabled(True)
        self.later.setEnabled(True)
        self.banner.show_error(error)
