"""What nodes can do: small protocols that kinds implement where they can, and jobs ask for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from core.model.diagnosis import DiagnosisStep, Profile, Standing
from core.model.errors import FerryError
from core.model.fields import Suggestion
from core.model.gateway import IntakeLevel
from core.model.job import ExtraKind, Trigger
from core.model.node import NodeFields
from core.model.outcome import Failure
from core.model.remotes import RemoteDraft, RemoteEntry, RemoteFields, RemoteKind, RemoteList
from core.model.study import (
    ChangePage,
    Holding,
    InstanceRef,
    Listing,
    StudyInfo,
    StudyQuery,
)
from core.wire.http import Abort

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class _Capability(type(Protocol)):  # type: ignore[misc]  # Protocol's own metaclass has no public name
    """Asks the class, not the node: Python 3.11 would run the properties of a node for ``isinstance``.

    That would mean requests to a server that is perhaps not there, only to learn whether it could be asked.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        own = getattr(instance, "__dict__", {})
        names = (name for name in vars(cls) if not name.startswith("_"))
        return all(hasattr(type(instance), name) or name in own for name in names)


class ByteStream(Protocol):
    """Bytes of one instance on their way. `length` is None where the source doesn't say in advance."""

    length: int | None

    def readinto(self, view: memoryview, /) -> int:
        """Fill `view` from its start; number of bytes, 0 at the end. Truncation raises `TransportError`."""


def digest_of(stream: ByteStream) -> str | None:
    """MD5 that the source keeps of the file (lower-case hexadecimal), where its stream says so as `digest`."""
    return getattr(stream, "digest", None)


Body = bytes | memoryview | ByteStream
"""An instance on its way to a destination: whole in memory, or to be read."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """What the destination answered to a store.

    Attributes
    ----------
    stored : bool
        True when newly stored; False when it says that it had this already.
    ref : str
        The destination's handle for it (Orthanc identifier, path below the folder).
    answer : str
        The status in the node's own words ("200 Success", "200 AlreadyStored", "0000").
    warning : str
    """

    stored: bool
    ref: str = ""
    answer: str = ""
    warning: str = ""


class DeleteState(StrEnum):
    DELETED = "deleted"
    GONE = "gone"  # it was not there any more
    CHANGED = "changed"  # holds other content than was verified: kept
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class DeleteOutcome:
    sop_uid: str
    state: DeleteState
    answer: str = ""


class Node(ABC):
    """An opened node: connections and what was learned about it. Thread-safe; errors are `FerryError`s."""

    name: str
    fields: NodeFields

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it is, normalised, so that two names of one place are equal (URL, resolved folder)."""

    @abstractmethod
    def probe(self) -> None:
        """Ask with one connection whether it is there (and lets us in); raises a `FerryError` when not."""

    @abstractmethod
    def close(self) -> None:
        """Drop all connections; may be called twice."""

    def failure(self, error: FerryError, side: str) -> Failure:
        """What an error of this node means for a delivery, by the status policy of its protocol."""
        from core.wire.status import http_failure

        return http_failure(error, side=side, node=self.name)


@runtime_checkable
class Diagnose(Protocol, metaclass=_Capability):
    def diagnose(self) -> Iterator[DiagnosisStep]:
        """Named steps, each given as it ends. Never raises for what it diagnoses."""

    def facts(self) -> tuple[tuple[str, str], ...]:
        """What the last diagnosis learned (version, capabilities), for the dated profile."""


@runtime_checkable
class Stands(Protocol, metaclass=_Capability):
    """A node of which a person wants to see more than whether it works: what it holds, how it is called."""

    def standing(self) -> Standing:
        """Asked now, at once; raises where it can't be told."""


class StudyListing(Protocol):
    """Iterate for the studies; afterwards `outcome` says whether that was all."""

    def __iter__(self) -> Iterator[StudyInfo]: ...

    @property
    def outcome(self) -> Listing: ...


@runtime_checkable
class Inventory(Protocol, metaclass=_Capability):
    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> StudyListing:
        """All studies that match. Deleting studies while iterating must not make it skip any."""

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        """One study by the node's handle or Study Instance UID; None when it isn't there."""

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        """Every instance of a study (or of one of its series) in pages of at most some hundred.

        `digests` asks for the node's own digests where they come in bulk.
        Raises when the list can't be had whole: a partial list is never passed off as all.
        """

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        """Values of some tags for each instance, for filters that look below the study level.

        `keywords` are as rules name tags (`core.model.rules.tags`): keywords, and where the node can tell those too,
        numbers "(gggg,eeee)" and paths through sequences with dots, then with the values of all items. Several values
        are separated by backslashes. What an instance doesn't have is left out or empty; what the node can't tell
        raises: a filter by it would be guesswork.
        """


@runtime_checkable
class Read(Protocol, metaclass=_Capability):
    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> AbstractContextManager[ByteStream]:
        """The DICOM file (PS3.10) as the node holds it, byte for byte."""

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        """The node's own MD5 of each file, by SOP Instance UID; what it can't tell is left out."""

    @property
    def keeps_digests(self) -> bool:
        """Whether `source_digests` tells digests that the node keeps; False where it would have to read the files."""


@runtime_checkable
class ReadAhead(Protocol, metaclass=_Capability):
    """A node with `Read` where a request costs more than the image that it brings: it fetches several together."""

    def read_ahead(self, instances: Sequence[InstanceRef]) -> None:
        """These will be opened soon, in this order. Only a hint: nothing is fetched before one of them is opened."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole DICOM file in memory that somebody else owns; `digest` where the source told it along with the bytes."""

    body: memoryview
    digest: str | None = None


@runtime_checkable
class ReadTogether(Protocol, metaclass=_Capability):
    """A node with `Read` that gives several small instances in one go: a round trip for each costs more than it."""

    def open_together(
        self, instances: Sequence[InstanceRef], into: memoryview, *, abort: Abort | None = None
    ) -> list[Fetched | None]:
        """The files, as far as they came without any doubt; None for whatever has to be opened by itself.

        They lie in `into`, and are valid as long as that. Raises as `Read.open`, where no answer came at all.
        """


@runtime_checkable
class Write(Protocol, metaclass=_Capability):
    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        """Store one instance. No acknowledgement, no return: it raises.

        A `memoryview` is valid until the return only.
        """

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        """Remove what is stored under this SOP Instance UID, because the person asked to replace it."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How much goes to a node with one request: at most `count` images, and no more than `size` bytes unless one."""

    count: int
    size: int


@runtime_checkable
class WriteMany(Protocol, metaclass=_Capability):
    """A node with `Write` where a round trip costs more than a small image: several are stored with one."""

    @property
    def batch_limits(self) -> BatchLimits: ...

    def store_many(
        self, study: StudyInfo, images: Sequence[tuple[InstanceRef, bytes | memoryview]], *, abort: Abort | None = None
    ) -> list[Acknowledgement | FerryError | None]:
        """What became of each image, in their order; None where that is in doubt: it is to be stored alone, then.

        Nothing is raised but for what is no error of the node.
        """


@runtime_checkable
class Confirm(Protocol, metaclass=_Capability):
    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        """What the node holds under each SOP Instance UID, in the order asked; asked anew each time.

        An answer that can't be had raises; one that can't be trusted is `Presence.UNKNOWN`.
        """

    @property
    def gives_digests(self) -> bool:
        """Whether `confirm` tells digests."""

    @property
    def digests_in_bulk(self) -> bool:
        """Whether digests of many instances cost one request."""


@runtime_checkable
class Commit(Protocol, metaclass=_Capability):
    """Storage commitment (PS3.4 Annex J)."""

    def commit(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> dict[str, str]:
        """Ask the node to take over these instances; the failure reason by SOP Instance UID, empty where committed."""


@runtime_checkable
class Compare(Protocol, metaclass=_Capability):
    """Attributes of a stored instance, to tell "the same, re-encoded" from "different"."""

    def attributes(self, study: StudyInfo, instance: InstanceRef) -> Mapping[str, str] | None:
        """All attributes but pixels and encoding, as text by tag; None where not to be had."""


@runtime_checkable
class CompareByFetching(Protocol, metaclass=_Capability):
    """A node with `Confirm` that can tell nothing of an instance but its UID."""

    def holds_same(self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None) -> bool:
        """Fetch what it holds under this UID, and compare all of it with `body`; False also where that can't be told.

        Raises `TransportError` (fault ``ABORTED``), and what `body` raises.
        """


@runtime_checkable
class Delete(Protocol, metaclass=_Capability):
    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        """Delete exactly these instances, each only if it is still what `digest` says (where given)."""


@runtime_checkable
class Follow(Protocol, metaclass=_Capability):
    def cursor(self) -> int:
        """The present end of the change log."""

    def changes(self, since: int, *, abort: Abort | None = None) -> ChangePage:
        """What happened after sequence number `since`."""

    def stable(self, kind: Trigger, ref: str) -> bool:
        """The server's own stability flag of a series or study, asked now; False when it is gone."""

    def study_of(self, kind: Trigger, ref: str) -> StudyInfo | None:
        """The study that an instance, series or study of the change log belongs to; None when it is gone."""

    def describe(self, refs: Sequence[str]) -> Iterator[tuple[StudyInfo, Sequence[InstanceRef]]]:
        """Instances of the change log by their handles, grouped by study; those that are gone are left out."""


class PushState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    GONE = "gone"  # the server no longer knows the job: the destination must be asked


@dataclass(frozen=True, slots=True)
class PushStatus:
    """How far the server's own sending is.

    Attributes
    ----------
    state : PushState
    progress : float
        0 to 1.
    detail : str
        What the server says, in its own words (state, or C-MOVE's counters).
    error : FerryError | None
        Why it failed, where the answer tells more than that: `Node.failure` knows what it means.
    """

    state: PushState
    progress: float = 0.0
    detail: str = ""
    error: FerryError | None = None


@runtime_checkable
class Push(Protocol, metaclass=_Capability):
    def push_target(self, destination: Node) -> str:
        """The name under which this server knows `destination`; empty when it doesn't.

        The name of an Orthanc's peer or modality; the AE title for a node that is asked by C-MOVE.
        """

    @property
    def pushes_studies(self) -> bool:
        """Whether one job carries a whole study best (C-MOVE at study level), or any set of instances as well."""

    def push(self, instances: Sequence[InstanceRef], target: str, *, whole: bool = False) -> str:
        """Start the server's own job; returns its identifier. `whole`: these are all instances of their study."""

    def push_status(self, job: str) -> PushStatus:
        """State of the server's job, asked now."""

    def push_cancel(self, job: str) -> bool:
        """Cancel the server's job; False when it is still running there afterwards."""


@runtime_checkable
class PushResume(Protocol, metaclass=_Capability):
    """A node with `Push` whose jobs go on when this program ends: they can be found again."""

    def push_resume(self, instances: Sequence[InstanceRef], target: str) -> str:
        """A job that is still at work there on any of these instances for `target`; empty when there surely is none.

        To be asked before `push`, as long as it gives one: follow the job to its end, then ask the destination what
        is missing. So nothing is sent twice after this program was killed, or when the answer to a `push` was lost.
        The job may be another program's: let it be, never cancel it.
        """


@runtime_checkable
class PushWords(Protocol, metaclass=_Capability):
    """A node with `Push` that can tell more about it than whether it works."""

    def push_words(self, target: str) -> str:
        """How a target is sent to, as a part of a sentence ("the peer “west”", "…, by the transfers accelerator")."""

    def push_pays(self, target: str) -> bool:
        """Whether large images arrive sooner so than through this computer, or a person has chosen this way."""

    def push_refusal(self, destination: Node) -> str:
        """Why there is no `push_target` for a destination, as a part of a sentence; empty where only none is known."""


@runtime_checkable
class Remotes(Protocol, metaclass=_Capability):
    """A server that keeps lists of others, to which it sends by itself, and lets them be changed from here."""

    def remotes(self) -> RemoteList:
        """All entries, asked now; what the server does not let us see is left out, and said."""

    def put_remote(self, kind: RemoteKind, fields: RemoteFields, *, replace: bool) -> None:
        """Add an entry, or replace it; `fields` hold the secrets as well.

        Raises `ConfigurationError` where there is one of that name already (or none to be replaced), where
        something would get lost, or where the server lets nobody change its lists (``remote-fixed``): its detail is
        what to tell the administrator then.
        """

    def remove_remote(self, kind: RemoteKind, name: str) -> bool:
        """False when it was not there."""

    def test_remote(self, kind: RemoteKind, name: str, *, node: Node | None = None) -> str:
        """Let the server call it; what it found, in a sentence. Raises a `FerryError` in words when it can't.

        `node` is what the entry stands for, where that is a node of ours: a token that it lends goes along.
        """

    def remote_text(self, kind: RemoteKind, entries: Sequence[RemoteFields]) -> str:
        """What to tell the server's administrator, ready to paste, so that these entries stay; never a secret."""

    def remote_drafts(self, node: Node) -> Sequence[RemoteDraft]:
        """How this server would know another registered node, the best way first; empty where it can't."""

    def is_remote(self, entry: RemoteEntry, node: Node) -> bool:
        """Whether an entry is this node."""


@runtime_checkable
class Label(Protocol, metaclass=_Capability):
    def label(self, study: StudyInfo, label: str) -> None:
        """Put a label on a study."""

    @property
    def has_labels(self) -> bool: ...


@runtime_checkable
class Extras(Protocol, metaclass=_Capability):
    """A node that keeps more than images: labels, metadata, attachments."""

    def carry_extras(
        self,
        study: StudyInfo,
        destination: Node,
        kinds: frozenset[ExtraKind],
        *,
        overwrite: bool = False,
        abort: Abort | None = None,
    ) -> list[str]:
        """Bring to `destination` what it lacks of them, for everything of the study that it holds.

        What is different there stays unless `overwrite`; a sentence for each such thing is given back.

        Raises
        ------
        NotSupportedError
            The destination has no place for it.
        """


@runtime_checkable
class Identity(Protocol, metaclass=_Capability):
    def same_storage(self, other: Node, study: StudyInfo) -> bool:
        """Whether `other` is this very server or folder under another name or address.

        Asked before the first deletion of a move: deleting "at the source" would then delete the only copy.
        `study` is held by both. Told for certain where the protocol allows it (for example by a mark
        that is put on the study at `other`, looked for here and removed again); raises when it can't be told.
        """


@runtime_checkable
class Senders(Protocol, metaclass=_Capability):
    """A node that remembers who sent to it by C-STORE."""

    def senders(self, instances: Sequence[InstanceRef]) -> Mapping[str, str]:
        """Calling AE title by SOP Instance UID; what came another way, or is not known any more, is left out."""


@runtime_checkable
class Dimse(Protocol, metaclass=_Capability):
    """A node that takes images by C-STORE: what another node must know to send to it."""

    def dicom_address(self) -> DicomAddress:
        """AE title, host and port; raises where the node can't be asked for them."""


@dataclass(frozen=True, slots=True)
class DicomAddress:
    """Where an application entity is reached (PS3.8): `aet` of at most 16 characters, `host` a name or an address.

    `calling_aet` is what this computer calls itself towards it, where it is called from here.
    """

    aet: str
    host: str
    port: int
    calling_aet: str = field(default="", compare=False)


@runtime_checkable
class Stow(Protocol, metaclass=_Capability):
    """A node that takes images by STOW-RS (PS3.18 10.5): what another server must know to send to it."""

    def dicomweb_address(self) -> DicomwebAddress:
        """Where its services are; `NotSupportedError` where it has none, other errors where it can't be asked."""


@dataclass(frozen=True, slots=True)
class DicomwebAddress:
    """Where a DICOMweb service is reached (PS3.18), and who lets others in there.

    Attributes
    ----------
    url : str
        What stands before ``/studies``.
    needs_token : bool
        It lets in by a token that this program fetches (OAuth2), which no other server has by itself.
    lends_to : tuple[str, ...]
        Names of the nodes that the person allows to send there with this program's token.
    token : Callable[[], str] | None
        The value of ``Authorization`` for a request now; errors are `FerryError`s.
    """

    url: str
    needs_token: bool = False
    lends_to: tuple[str, ...] = ()
    token: Callable[[], str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class KnownNode:
    """A registered node that speaks DICOM, and where it is reached."""

    name: str
    address: DicomAddress


@runtime_checkable
class Listen(Protocol, metaclass=_Capability):
    """A node that is called by others. It listens while the engine of its home runs, in that process only."""

    def listen(self) -> None:
        """Start to listen; nothing when it does already. Raises `LocalError` where the port is taken."""

    def stop_listening(self) -> None:
        """Let what is being received end at an instance boundary, then stop; may be called twice."""

    @property
    def is_listening(self) -> bool: ...


@runtime_checkable
class Intake(Protocol, metaclass=_Capability):
    """A node that takes in what others send to it, and keeps it until a job has brought it on."""

    def intake(self) -> IntakeLevel:
        """How it stands, asked now; raises a `FerryError` where its store can't be read."""


@runtime_checkable
class DiskUse(Protocol, metaclass=_Capability):
    """A node that can tell how full it is."""

    def disk_use(self) -> DiskLevel:
        """Asked now; raises where it can't be told."""


@dataclass(frozen=True, slots=True)
class DiskLevel:
    """Bytes in use, and the most there is room for (None where the node doesn't say)."""

    used: int
    capacity: int | None = None


class Arrivals(Protocol):
    """Instances that were expected here by their SOP Instance UIDs, as they arrive."""

    def wait(self, count: int, timeout: float) -> int:
        """Wait until `count` of them are here, or `timeout` seconds have passed; how many are."""

    def path(self, sop_uid: str) -> Path | None:
        """The DICOM file (PS3.10) of one that has arrived; None while it hasn't."""


class Reports(Protocol):
    """The storage commitment report of one transaction, when its node sends it on an association of its own."""

    def wait(self, timeout: float, *, abort: Abort | None = None) -> tuple[int, Dataset] | None:
        """Event type (PS3.4 J.3.3.1: 1 all committed, 2 failures exist) and event information; None in time-out."""


@runtime_checkable
class Landing(Protocol, metaclass=_Capability):
    """This computer as the place where a C-MOVE brings images: the this-computer node that listens in this process."""

    @property
    def aet(self) -> str: ...

    def expect(
        self, sop_uids: Collection[str], *, sender: str = "", originator: str = ""
    ) -> AbstractContextManager[Arrivals]:
        """Take in these instances on the way through: they are no holding of this computer, and gone afterwards.

        Parameters
        ----------
        sop_uids : Collection[str]
        sender : str
            AE title of the peer that the C-MOVE was sent to.
        originator : str
            The calling AE title of that C-MOVE: what a C-STORE request of it names (PS3.7 9.1.1.1.9). The same
            instance from anybody else is an ordinary reception, and kept; it counts as arrived all the same.
        """

    def expect_report(self, transaction_uid: str) -> AbstractContextManager[Reports]:
        """Take in the N-EVENT-REPORT of this storage commitment (PS3.4 J.3.3); entered before the N-ACTION."""


SecretOf = Callable[[str], str | None]
"""Gives a secret field's value by its name; raises `SecretError` when the keyring can't be asked."""


@dataclass(frozen=True, slots=True)
class OpenContext:
    """What a kind is given to open a node.

    Attributes
    ----------
    name : str
    secret : SecretOf
    profile : Profile | None
        What the last diagnosis learned.
    folder : Path | None
        A folder of the home that is this node's own (a spool, files on their way through); made when it is used.
    node : Callable[[str], Node] | None
        Opens another registered node, for one that is reached through it; close what it gives.
    landing : Callable[[], Landing | None]
        This computer as the destination of a C-MOVE; None where it doesn't listen in this process.
    peers : Callable[[], Sequence[KnownNode]]
        The other registered nodes that speak DICOM. What is not known for certain may be asked of them: seconds.
    """

    name: str
    secret: SecretOf
    profile: Profile | None = None
    folder: Path | None = None
    node: Callable[[str], Node] | None = None
    landing: Callable[[], Landing | None] = lambda: None
    peers: Callable[[], Sequence[KnownNode]] = lambda: ()


class NodeKind(ABC):
    """A kind of node: its declared fields, and how one is opened. Registered by `registry.register`.

    Attributes
    ----------
    listens : bool
        Its nodes implement `Listen`: an engine opens them when it starts, whether a job uses them or not.
    traits : frozenset[str]
        What fields of other kinds may ask of a node that they name (`FormField.among`).
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    icon: ClassVar[str]
    Fields: ClassVar[type[NodeFields]]
    listens: ClassVar[bool] = False
    traits: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def open(self, fields: NodeFields, context: OpenContext) -> Node:
        """Open without talking to it yet. `fields` is an instance of `Fields`."""

    @abstractmethod
    def address(self, fields: NodeFields) -> str:
        """Where it is, in one short line for lists ("https://mri.lan:8042")."""

    def warnings(self, fields: NodeFields, *, has_secret: bool) -> list[str]:
        """Sentences to show before it is saved ("The password would travel unencrypted …")."""
        return []

    def derived(self, fields: NodeFields) -> tuple[tuple[str, str], ...]:
        """What follows from the fields and is good to see before it is saved: titles and values ("Address", …)."""
        return ()

    def receives(self, fields: NodeFields) -> str:
        """What a node that listens does, for the window's foot ("receives images as FERRY on port 11112")."""
        return ""

    def suggestions(
        self, field: str, fields: Mapping[str, object], open_node: Callable[[str], Node]
    ) -> Sequence[Suggestion]:
        """Values that a person may choose for a field, by what the other fields hold so far; may ask other nodes.

        `open_node` opens a registered node, which the caller closes. Errors are `FerryError`s.
        """
        return ()
