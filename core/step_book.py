"""The step book: which steps there are, what they need of this home, and what they would make of an image."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.engine import applying
from core.engine.applying import TitledStep
from core.engine.changed_file import DicomContent, parse, temporary_file
from core.engine.changing import JobSteps, open_job_steps
from core.jobs.base import TransferOptions
from core.model.errors import ConfigurationError, FerryError, SecretError
from core.model.quietly import silence_pydicom
from core.model.step_preview import StepsPreview, TagRow, TagState
from core.model.steps import StepChoice
from core.model.study import InstanceRef, StudyInfo, StudyQuery
from core.node_book import NodeBook
from core.nodes.base import Inventory, Node, Read
from core.secrets import Kept, Secrets, variable_name
from core.steps.base import LargeValue, StepError, StepKind, StepSurroundings
from core.steps.registry import checked_fields, described, normalised, open_steps, step_kinds
from core.wire.http import Abort

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SHARED = "steps"  # under which name the keyring keeps what steps share
LONGEST = 400  # characters of a value that are shown


def kinds() -> dict[str, StepKind]:
    """The kinds of steps that can be chosen, by name."""
    return step_kinds.all()


def describe(choice: StepChoice) -> str:
    """What a step does, in one short line."""
    return described(choice)


def tried(choice: StepChoice) -> StepChoice:
    """A step with its fields judged and completed, whose files and programs were seen to be there.

    Raises
    ------
    ConfigurationError
        Its fields are wrong, or what it needs is not there.
    """
    checked = normalised(choice)
    step_kinds.get(checked.kind).look(checked_fields(checked))
    return checked


class StepBook:
    """Steps of one home.

    Parameters
    ----------
    folder : Path
        For files of the moment of the engine.
    """

    def __init__(self, nodes: NodeBook, secrets: Secrets, folder: Path) -> None:
        self._nodes = nodes
        self._secrets = secrets
        self._folder = folder

    def kinds(self) -> dict[str, StepKind]:
        """The kinds of steps that can be chosen, by name."""
        return kinds()

    def surroundings(self) -> StepSurroundings:
        """For the steps of jobs that an engine runs."""
        return StepSurroundings(self._secret, self._keep, self._folder)

    def _secret(self, name: str) -> str | None:
        return self._secrets.get(SHARED, name)

    def _keep(self, name: str, value: str) -> None:
        if self._secrets.put(SHARED, name, value) is not Kept.KEYRING:
            self._secrets.remove(SHARED, (name,))
            raise SecretError(
                "There is no keyring to keep the key of a step: what it makes could never be made again.",
                f"Set up a keyring, or give the key in {variable_name(SHARED, name)}.",
                code="no-keyring",
            )

    def checked(self, choices: Iterable[StepChoice]) -> tuple[StepChoice, ...]:
        """The steps with their fields judged and completed.

        Raises
        ------
        ConfigurationError
            Naming the step and the field that is wrong.
        """
        return tuple(normalised(choice) for choice in choices)

    def opened(self, options: TransferOptions) -> JobSteps | None:
        """The steps of a job, to be asked what they foretell, and closed again; None where it has none.

        Raises
        ------
        ConfigurationError
        """
        return open_job_steps(options, replace(self.surroundings(), folder=None))

    def check(self, options: TransferOptions) -> None:
        """Open the steps of a job as it would be started, and close them again.

        Raises
        ------
        ConfigurationError
            What a step needs is not there, or a move would delete the only images that say whose they are.
        """
        if options.steps:
            with _private_folder() as folder:
                steps = open_job_steps(options, replace(self.surroundings(), folder=folder))
                if steps is not None:
                    steps.close()

    # preview --------------------------------------------------------------------------------------------

    def some_studies(self, node: str, limit: int, *, abort: Abort | None = None) -> list[StudyInfo]:
        """The first studies that a node gives, to choose one of. Blocking.

        Raises
        ------
        FerryError
        """
        with closing(self._nodes.open(node)) as opened:
            _require_readable(opened)
            assert isinstance(opened, Inventory)
            return list(islice(opened.studies(StudyQuery(), abort=abort or Abort()), limit))

    def preview(
        self,
        node: str,
        choices: Sequence[StepChoice],
        *,
        study_uid: str = "",
        sop_uid: str = "",
        abort: Abort | None = None,
    ) -> StepsPreview:
        """What steps make of a real image of a node, in memory; nothing is sent. Blocking.

        Parameters
        ----------
        study_uid, sop_uid : str
            Which image; by default the first that the node gives.

        Raises
        ------
        FerryError
            The node can't give an image, or a step can't be opened.
        """
        stop = abort or Abort()
        silence_pydicom()
        with _private_folder() as folder, closing(self._nodes.open(node)) as opened:
            _require_readable(opened)
            assert isinstance(opened, Read)
            study, instance = _chosen(opened, study_uid, sop_uid, stop)
            with opened.open(instance, abort=stop) as stream:
                file, _digest = applying.received(stream, folder, lambda _count: None, opened.name)
            before = parse(file, folder)
            try:
                old = list(_flat(before.dataset, before))
                done, new, failure = self._applied(choices, before, folder, stop)
            finally:
                before.close()
        title = " · ".join(w for w in (study.patient_name, study.study_date, study.description) if w)
        return StepsPreview(
            instance.study_uid or study.study_uid,
            instance.series_uid,
            instance.sop_uid,
            title,
            tuple(_rows(old, old if failure else new)),
            done,
            failure,
        )

    def _applied(
        self, choices: Sequence[StepChoice], before: DicomContent, folder: Path, abort: Abort
    ) -> tuple[tuple[str, ...], list[_Tag], str]:
        surroundings = replace(self.surroundings(), folder=folder, stopped=lambda: abort.aborted)
        opened = open_steps(choices, surroundings)
        try:
            copy = temporary_file(folder)
            for block in before.unchanged.blocks():
                copy.write(block)
            titled = [TitledStep(step_kinds.get(c.kind).title, step) for c, step in zip(choices, opened, strict=True)]
            content, done = applying.apply(titled, parse(copy, folder), folder)
        except StepError as error:
            return (), [], str(error)
        finally:
            for step in opened:
                step.close()
        with closing(content):
            return tuple(done), list(_flat(content.dataset, content)), ""


@contextmanager
def _private_folder() -> Iterator[Path]:
    """Not the engine's: that empties its own when it starts."""
    with tempfile.TemporaryDirectory(prefix="dicom-ferry-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _require_readable(node: Node) -> None:
    if not isinstance(node, Inventory) or not isinstance(node, Read):
        raise ConfigurationError(f"{node.name} can't give images.", "Choose another node.", code="capability")


def _chosen(node: Any, study_uid: str, sop_uid: str, abort: Abort) -> tuple[StudyInfo, InstanceRef]:
    query = StudyQuery(study_uids=(study_uid,)) if study_uid else StudyQuery()
    for study in node.studies(query, abort=abort):
        for page in node.instances(study, digests=False, abort=abort):
            for instance in page:
                if not sop_uid or instance.sop_uid == sop_uid:
                    return study, instance
        if study_uid:
            break
    what = "such an image" if sop_uid else "an image of this study" if study_uid else "any image"
    raise ConfigurationError(f"{node.name} does not hold {what}.", "Choose another study.", code="no-image")


# tags -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tag:
    path: str
    name: str
    vr: str
    text: str
    whole: int
    level: int
    order: tuple[int, ...]


def _flat(dataset: Dataset, content: DicomContent, path: str = "", order: tuple[int, ...] = ()) -> Iterator[_Tag]:
    from pydicom.datadict import dictionary_description

    for element in dataset:
        number = f"({element.tag.group:04X},{element.tag.elem:04X})"
        here, place = path + number, (*order, int(element.tag))
        try:
            name = dictionary_description(element.tag)
        except KeyError:
            name = "Private Creator" if element.tag.is_private_creator else "Private Tag"
        yield _Tag(here, name, str(element.VR), _text(element, content), _whole(element), len(order) // 2, place)
        if element.VR == "SQ":
            for position, item in enumerate(element.value or ()):
                yield from _flat(item, content, f"{here}[{position}].", (*place, position))


def _text(element: Any, content: DicomContent) -> str:
    value = element.value
    if isinstance(value, LargeValue):
        _start, at, end = content.large[int(element.tag)]
        return f"{end - at:,} bytes"
    if element.VR == "SQ":
        count = len(value or ())
        return "1 item" if count == 1 else f"{count} items"
    if value is None:
        return ""
    if isinstance(value, bytes):
        text = value.rstrip(b"\0 ")
        plain = len(text) <= LONGEST and text.isascii() and text.decode("ascii", "replace").isprintable()
        return text.decode("ascii") if plain else f"{len(value):,} bytes: {value[:8].hex(' ')} …"
    words = "\\".join(str(v) for v in value) if element.VM > 1 else str(value)
    return words if len(words) <= LONGEST else f"{words[:LONGEST]} … ({len(words):,} characters)"


def _whole(element: Any) -> int:
    """What tells two values apart that look alike because they are too long to be shown."""
    return 0 if element.VR == "SQ" or isinstance(element.value, LargeValue) else hash(str(element.value))


def _rows(old: Sequence[_Tag], new: Sequence[_Tag]) -> Iterator[TagRow]:
    before, after = {t.order: t for t in old}, {t.order: t for t in new}
    for order in sorted(before.keys() | after.keys()):
        was, now = before.get(order), after.get(order)
        one = now or was
        assert one is not None
        if was is None:
            state = TagState.ADDED
        elif now is None:
            state = TagState.REMOVED
        else:
            state = (
                TagState.SAME if (was.text, was.whole, was.vr) == (now.text, now.whole, now.vr) else TagState.CHANGED
            )
        yield TagRow(one.path, one.name, one.vr, was.text if was else "", now.text if now else "", state, one.level)


__all__ = ["FerryError", "StepBook"]
