"""What a processing step is: declared fields, and what it does to one instance on its way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from core.model.errors import FerryError
from core.model.fields import Declared

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class StepFields(Declared):
    """Base of every step kind's fields."""


class StepError(FerryError):
    """A step could not do its work on an instance: nothing of it is sent, and a person has to look.

    The sentence never holds patient data: it is kept in the ledger, shown and logged.
    """

    def __init__(self, sentence: str, next_step: str = "", *, detail: str = "", code: str = "step") -> None:
        super().__init__(sentence, next_step, detail=detail, code=code)


class LargeValue(bytes):
    """Stands in a data set for a value that is not held in memory: pixel data, and other large binary values.

    Left alone, the value is carried unchanged; the element may be removed, or given another value.
    """


def _no_secret(_name: str) -> str | None:
    return None


def _keep_nothing(_name: str, _value: str) -> None:
    return None


@dataclass(frozen=True, slots=True)
class StepSurroundings:
    """What a step is given when it is opened.

    Attributes
    ----------
    secret : Callable[[str], str | None]
        A secret of this home that steps share, by its name, from the keyring or the environment; None where there
        is none. Raises `SecretError` when the keyring can't be asked.
    keep_secret : Callable[[str, str], None]
        Keeps a secret under a name (a key that a step has made for itself). Raises `SecretError` where it would not
        survive the program: what was done with it could never be repeated.
    folder : Path | None
        A folder that only its owner can read, for files of the moment; None where nothing may be written (previews
        give one all the same). What a step makes there, it removes.
    stopped : Callable[[], bool]
        Whether the work is to end now: a step that waits for something asks every tenth of a second.
    """

    secret: Callable[[str], str | None] = field(default=_no_secret, repr=False)
    keep_secret: Callable[[str, str], None] = field(default=_keep_nothing, repr=False)
    folder: Path | None = None
    stopped: Callable[[], bool] = field(default=lambda: False, repr=False)


class Step(ABC):
    """A step, opened for one job. `apply` is called by several threads at once.

    Attributes
    ----------
    maps_uids : bool
        `uid` gives other UIDs than it is given, and `apply` sets exactly those.
    foretells_uids : bool
        What `uid` says holds. False where only the work itself shows which UIDs come out (an external program): the
        destination then can't be asked before the work is done.
    repeatable : bool
        Given the same instance, it makes the same of it again, but for the time of the change. Where it doesn't,
        what the ledger holds of the first attempt decides.
    deidentifies : bool
        It takes away what says whose the images are: after a move, nobody could tell any more.
    """

    maps_uids: bool = False
    foretells_uids: bool = True
    repeatable: bool = True
    deidentifies: bool = False

    @abstractmethod
    def apply(self, dataset: Dataset) -> tuple[str, ...]:
        """Change the data set in place; give short sentences of what was done, without patient data.

        The data set has its File Meta Information (``dataset.file_meta``). The pixel data and other large binary
        values of its top level are there as a `LargeValue`, which is empty: what they hold can't be read here. No
        sentence means that nothing was changed: the file is carried as it was.

        Media Storage SOP Instance UID and Transfer Syntax UID in the File Meta Information are made right by whoever
        calls. Digital signatures that no longer hold are removed by whoever calls.

        Raises
        ------
        StepError
        """

    def uid(self, uid: str) -> str:
        """What becomes of a Study, Series or SOP Instance UID."""
        return uid

    def close(self) -> None:
        """Let go of what was opened."""
        return


@runtime_checkable
class WholeFile(Protocol):
    """A step that works on the DICOM file (PS3.10) as a whole; its `apply` is not called then."""

    def transform(self, source: Path, target: Path) -> tuple[str, ...]:
        """Write to `target` what is made of `source`, which stays as it is; sentences as `Step.apply`.

        Raises
        ------
        StepError
        """


class StepKind(ABC):
    """A kind of step: its declared fields, and how one is opened. Registered by `registry.register`.

    Attributes
    ----------
    deidentifies : bool
        As `Step.deidentifies`, for all of its steps.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    icon: ClassVar[str]
    Fields: ClassVar[type[StepFields]]
    deidentifies: ClassVar[bool] = False

    @abstractmethod
    def open(self, fields: StepFields, surroundings: StepSurroundings) -> Step:
        """Open for a job, with all that it needs at hand. `fields` is an instance of `Fields`.

        Raises
        ------
        ConfigurationError
            A file or program that it needs is not there, or can't be used.
        """

    def look(self, fields: StepFields) -> None:
        """Look whether files and programs that it needs are there, while a person chooses; asks for no secret.

        Raises
        ------
        ConfigurationError
        """
        return

    def describe(self, fields: StepFields) -> str:
        """What it does, in one short line for lists ("Set PatientID; remove 2 tags"); no patient data."""
        return self.title
