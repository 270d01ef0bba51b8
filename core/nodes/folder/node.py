"""An opened folder or ZIP file: lists, reads, takes, confirms and deletes instances."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from core.model import held_file
from core.model.diagnosis import DiagnosisStep
from core.model.errors import FerryError, LocalError, TransportError, TransportFault
from core.model.outcome import Failure, FailureClass
from core.model.study import Holding, InstanceRef, Listing, Presence, StudyInfo, StudyQuery
from core.nodes.base import Acknowledgement, Body, ByteStream, DeleteOutcome, DeleteState, DiskLevel, Node
from core.nodes.folder import disk
from core.nodes.folder.archive import Archive
from core.nodes.folder.diagnose import diagnose
from core.nodes.folder.directory import Directory
from core.nodes.folder.fields import FolderFields
from core.nodes.folder.index import Totals
from core.nodes.folder.layout import ATTEMPTS, destination
from core.nodes.folder.scan import Scan
from core.nodes.folder.upkeep import Upkeep
from core.nodes.local.faults import folder_failure, local_error, speaking, told
from core.nodes.local.header import BrokenDicomError, Header, NotDicomError, read_attributes, read_header, read_tags
from core.nodes.local.query import matches
from core.nodes.local.stream import LocalStream
from core.wire.abort import Abort

log = logging.getLogger(__name__)


class FolderNode(Node):
    """Diagnose, Inventory, Read, Write, Confirm, Compare, Delete, Identity and DiskUse over files. Thread-safe."""

    fields: FolderFields

    def __init__(self, fields: FolderFields, name: str) -> None:
        self.name = name
        self.fields = fields
        root = Path(fields.path)
        self.files: Directory | Archive = Archive(root, name) if fields.is_zip else Directory(root, name)
        self._scan = Scan(self.files, name)
        self._upkeep = Upkeep(self.files, self._scan, fields, name)
        self._writes = False
        self._must_write = False
        self._facts: tuple[tuple[str, str], ...] = ()

    @property
    def place(self) -> str:
        return os.path.normcase(disk.real(self.fields.path))

    # the node -------------------------------------------------------------------------------------------

    def probe(self) -> None:
        self._there()
        if self._must_write:  # what failed last was writing: reading alone doesn't open the way again
            self._try_writing()
            self._must_write = False

    def disk_use(self) -> DiskLevel:
        """Of the disk that the folder lies on; what is kept for others there counts as in use."""
        self._there()
        with speaking(self.name):
            usage = shutil.disk_usage(self.fields.path)
        return DiskLevel(usage.total - usage.free, usage.total)

    def close(self) -> None:
        if self._upkeep.close():
            try:
                with speaking(self.name):
                    self.files.close()
            except FerryError as error:
                log.warning("%s", error)
            self._scan.close()

    def failure(self, error: FerryError, side: str) -> Failure:
        found = folder_failure(error, side)
        if found is None:
            return super().failure(error, side)
        if side == "destination" and found.cls is FailureClass.PERSON:
            self._must_write = True
        return found

    @property
    def scanned(self) -> Totals:
        """What the last inventory saw: files, images, studies, and what was left alone."""
        return self._scan.totals

    # Diagnose -------------------------------------------------------------------------------------------

    def diagnose(self) -> Iterator[DiagnosisStep]:
        facts: dict[str, str] = {}
        yield from diagnose(self.files, self.fields, self.name, self._try_writing, facts)
        self._facts = tuple(facts.items())

    def facts(self) -> tuple[tuple[str, str], ...]:
        return self._facts

    # Inventory ------------------------------------------------------------------------------------------

    def studies(self, query: StudyQuery, *, abort: Abort | None = None) -> FolderListing:
        return FolderListing(self, query, abort)

    def study(self, ref: str, *, abort: Abort | None = None) -> StudyInfo | None:
        self._look(abort, anew=False)
        return self._scan.index.study(ref)

    def instances(
        self, study: StudyInfo, *, series_ref: str = "", digests: bool = True, abort: Abort | None = None
    ) -> Iterator[Sequence[InstanceRef]]:
        self._look(abort, anew=False)
        for page in self._scan.index.instances(study.study_uid, series_ref):
            if abort is not None:
                abort.check()
            yield page

    def tags(self, instances: Sequence[InstanceRef], keywords: frozenset[str]) -> list[Mapping[str, str]]:
        found: list[Mapping[str, str]] = []
        for instance in instances:
            with self._reading(instance.ref) as file:
                found.append(read_tags(file, keywords))
        return found

    def _look(self, abort: Abort | None, *, anew: bool) -> None:
        self._there()
        self._scan.refresh(abort, anew=anew)

    # Read -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def open(self, instance: InstanceRef, *, abort: Abort | None = None) -> Iterator[ByteStream]:
        with self._reading(instance.ref) as file:
            if read_header(file).sop_uid != instance.sop_uid:
                raise LocalError(
                    f"The file in “{self.name}” now holds another image than when it was listed.",
                    "Take inventory again.",
                    code="changed",
                )
            entry = self.files.entry(instance.ref)
            file.seek(0)
            yield _FileStream(file, entry.size if entry else 0, self.name, abort)

    def source_digests(self, instances: Sequence[InstanceRef], *, abort: Abort | None = None) -> dict[str, str]:
        found = {}
        for instance in instances:
            with self._reading(instance.ref) as file:
                found[instance.sop_uid] = disk.md5_of(file, abort.check if abort else None)
        return found

    @property
    def keeps_digests(self) -> bool:
        return False

    # Write ----------------------------------------------------------------------------------------------

    def store(
        self, study: StudyInfo, instance: InstanceRef, body: Body, *, abort: Abort | None = None
    ) -> Acknowledgement:
        self._writes = True
        if not self._there():
            self.files.prepare()
        with speaking(self.name):
            part, file = disk.create_part(self.files.stages_in)
        try:
            with file:
                digest = self._receive(file, body, abort)
                header = self._check_arrived(file, instance)
                with speaking(self.name):
                    disk.settle(file)
            return self._name(part, study, instance, header, digest)
        finally:
            with contextlib.suppress(OSError):  # its name was given to it, or it is litter that is swept later
                held_file.unlink(part)

    def _receive(self, file: BinaryIO, body: Body, abort: Abort | None) -> str:
        if isinstance(body, (bytes, memoryview)):
            with speaking(self.name):
                file.write(body)
            return hashlib.md5(body, usedforsecurity=False).hexdigest()
        hasher = hashlib.md5(usedforsecurity=False)
        view = memoryview(bytearray(disk.CHUNK))
        total = 0
        while count := body.readinto(view):  # what goes wrong here is the source's, and passes as it is
            if abort is not None:
                abort.check()
            hasher.update(view[:count])
            total += count
            with speaking(self.name):
                file.write(view[:count])
        if body.length is not None and total != body.length:
            raise TransportError(
                TransportFault.CUT, "The source broke off in the middle of an image.", "It is tried again."
            )
        return hasher.hexdigest()

    def _check_arrived(self, file: BinaryIO, instance: InstanceRef) -> Header:
        with speaking(self.name):
            file.seek(0)
            try:
                header = read_header(file)
            except (NotDicomError, BrokenDicomError) as error:
                raise self._not_dicom(str(error)) from error
        if not header.part10:
            raise self._not_dicom("preamble and DICM are missing")
        if header.sop_uid != instance.sop_uid:
            raise LocalError(
                "What arrived is another image than the one that was announced.",
                "Nothing was stored; check the source.",
                code="other-instance",
            )
        return header

    def _not_dicom(self, why: str) -> LocalError:
        return LocalError(
            "What arrived is not a DICOM file.", "Nothing was stored; check the source.", detail=why, code="not-dicom"
        )

    def _name(self, part: str, study: StudyInfo, instance: InstanceRef, header: Header, digest: str) -> Acknowledgement:
        for attempt in range(ATTEMPTS):
            ref = str(destination(self.fields.layout, study, instance, attempt))
            try:
                with speaking_unless_exists(self.name):
                    self.files.adopt(part, ref)
            except FileExistsError:
                there = self._holding(ref, instance, digests=True, abort=None)
                if there is None:
                    continue  # another image, or something unreadable, has this name
                if there.digest == digest:
                    return Acknowledgement(stored=False, ref=ref, answer="already there")
                return Acknowledgement(
                    stored=False, ref=ref, answer="already there", warning="It has other content and was not replaced."
                )
            if isinstance(self.files, Directory):
                entry = self.files.entry(ref)
                if entry is not None:
                    self._scan.index.put(ref, entry.size, entry.stamp, header)
            self._upkeep.soon()
            return Acknowledgement(stored=True, ref=ref, answer="file written")
        raise told("in-the-way", self.name)

    def replace(self, study: StudyInfo, instance: InstanceRef) -> None:
        self._look(None, anew=False)
        for ref in self._refs(study, instance):
            if self._holding(ref, instance, digests=False, abort=None) is not None:
                with speaking(self.name):
                    self.files.remove(ref)
                self._scan.index.drop(ref)
                self._upkeep.soon()

    # Confirm --------------------------------------------------------------------------------------------

    def confirm(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, digests: bool = True, abort: Abort | None = None
    ) -> list[Holding]:
        self._writes = True
        absent = [Holding(i.sop_uid, Presence.ABSENT) for i in instances]
        if not self._there():
            return absent
        self._upkeep.resume()
        with speaking(self.name):
            self.files.settle()
        found = [self._expected(study, i, digests=digests, abort=abort) for i in instances]
        if None in found:
            # Not under the names that we give: it may lie anywhere below under another one.
            self._scan.refresh(abort, anew=False)
            for place, instance in enumerate(instances):
                if found[place] is None:
                    found[place] = self._elsewhere(instance, digests=digests, abort=abort)
        if None in found and not self._there():
            raise told("folder-missing", self.name)  # lost while being asked: that is no "absent"
        return [a if f is None else f for f, a in zip(found, absent, strict=True)]

    def _expected(
        self, study: StudyInfo, instance: InstanceRef, *, digests: bool, abort: Abort | None
    ) -> Holding | None:
        for attempt in range(ATTEMPTS):
            ref = str(destination(self.fields.layout, study, instance, attempt))
            with speaking(self.name):
                if self.files.entry(ref) is None:
                    return None
            found = self._holding(ref, instance, digests=digests, abort=abort)
            if found is not None:
                return found
        return None

    def _elsewhere(self, instance: InstanceRef, *, digests: bool, abort: Abort | None) -> Holding | None:
        for ref in self._scan.index.refs(instance.sop_uid):
            found = self._holding(ref, instance, digests=digests, abort=abort)
            if found is not None:
                return found
        return None

    def _holding(self, ref: str, instance: InstanceRef, *, digests: bool, abort: Abort | None) -> Holding | None:
        """What the file of this name holds, read now; None when it isn't this instance."""
        with speaking(self.name):
            try:
                with self.files.open(ref) as file:
                    header = read_header(file)
                    if header.sop_uid != instance.sop_uid:
                        return None
                    file.seek(0)
                    digest = disk.md5_of(file, abort.check if abort else None) if digests else None
                    entry = self.files.entry(ref)
            except (FileNotFoundError, NotDicomError, BrokenDicomError):
                return None
        size = entry.size if entry else None
        return Holding(instance.sop_uid, Presence.PRESENT, digest, size, header.transfer_syntax, ref)

    @property
    def gives_digests(self) -> bool:
        return True

    @property
    def digests_in_bulk(self) -> bool:
        return False

    # Compare --------------------------------------------------------------------------------------------

    def attributes(self, study: StudyInfo, instance: InstanceRef) -> Mapping[str, str] | None:
        self._look(None, anew=False)
        for ref in self._refs(study, instance):
            if self._holding(ref, instance, digests=False, abort=None) is not None:
                with self._reading(ref) as file:
                    return read_attributes(file)
        return None

    # Delete ---------------------------------------------------------------------------------------------

    def delete(
        self, study: StudyInfo, instances: Sequence[InstanceRef], *, abort: Abort | None = None
    ) -> Iterator[DeleteOutcome]:
        for instance in instances:
            if abort is not None:
                abort.check()
            yield self._delete(instance, abort)

    def _delete(self, instance: InstanceRef, abort: Abort | None) -> DeleteOutcome:
        uid, ref = instance.sop_uid, instance.ref
        self._there()  # what a lost share doesn't list is not "gone"
        try:
            before = self.files.entry(ref)
            if before is None:
                self._there()
                return DeleteOutcome(uid, DeleteState.GONE, "the file is not there any more")
            if self.files.is_link(ref):
                return DeleteOutcome(uid, DeleteState.REFUSED, "the file is a link")
            there = self._holding(ref, instance, digests=instance.digest is not None, abort=abort)
            if there is None or (instance.digest is not None and there.digest != instance.digest.lower()):
                return DeleteOutcome(uid, DeleteState.CHANGED, "the file holds other content than was verified")
            if self.files.entry(ref) != before:
                return DeleteOutcome(uid, DeleteState.CHANGED, "the file was changed meanwhile")
            self.files.remove(ref)
        except FileNotFoundError:
            return DeleteOutcome(uid, DeleteState.GONE, "the file is not there any more")
        except OSError as error:
            trouble = local_error(error, self.name)
            if self.failure(trouble, "source").cls is FailureClass.DOWN:
                raise trouble from error
            return DeleteOutcome(uid, DeleteState.REFUSED, str(trouble))
        except LocalError as error:
            if error.code != "outside":
                raise
            return DeleteOutcome(uid, DeleteState.REFUSED, str(error))
        self._scan.index.drop(ref)
        self._upkeep.soon()
        return DeleteOutcome(uid, DeleteState.DELETED, "file deleted")

    # Identity -------------------------------------------------------------------------------------------

    def same_storage(self, other: Node, study: StudyInfo) -> bool:
        """True for the same folder under another path or name, and where one lies within the other."""
        if not isinstance(other, FolderNode):
            return False
        with speaking(self.name):
            ours, theirs = (disk.real(n.fields.path) for n in (self, other))
            if Path(ours).samefile(theirs):
                return True
        ours, theirs = (os.path.normcase(p).rstrip(os.sep) + os.sep for p in (ours, theirs))
        return ours.startswith(theirs) or theirs.startswith(ours)

    # inside ---------------------------------------------------------------------------------------------

    def _there(self) -> bool:
        """Whether the root is there; raises when it is not and can't be made."""
        return self.files.check(create=self.fields.create and self._writes)

    def _try_writing(self) -> None:
        with speaking(self.name):
            part, file = disk.create_part(self.files.stages_in)
            try:
                with file:
                    file.write(b"DICOM Ferry writes here")
                    disk.settle(file)
            finally:
                held_file.unlink(part)

    @contextlib.contextmanager
    def _reading(self, ref: str) -> Iterator[BinaryIO]:
        """An open file of the source; its troubles are the file's own, not the whole folder's."""
        try:
            file = self.files.open(ref)
        except FileNotFoundError as error:
            self._there()
            raise told("gone", self.name) from error
        except OSError as error:
            raise local_error(error, self.name, of_file=True) from error
        with file:
            try:
                yield file
            except OSError as error:
                raise local_error(error, self.name, of_file=True) from error
            except (NotDicomError, BrokenDicomError) as error:
                raise LocalError(
                    f"A file in “{self.name}” is not, or no longer, a usable DICOM file.",
                    "Look at it with a DICOM viewer, or take inventory again.",
                    detail=str(error),
                    code="broken-dicom",
                ) from error

    def _refs(self, study: StudyInfo, instance: InstanceRef) -> list[str]:
        """Where this instance may lie: under the names that we give, and where the index has seen it."""
        names = [str(destination(self.fields.layout, study, instance, a)) for a in range(ATTEMPTS)]
        return list(dict.fromkeys((*names, *self._scan.index.refs(instance.sop_uid))))


class FolderListing:
    """The studies below a folder; looks at every file as soon as the first one is asked for."""

    def __init__(self, node: FolderNode, query: StudyQuery, abort: Abort | None) -> None:
        self._node = node
        self._query = query
        self._abort = abort
        self._outcome = Listing(complete=False, reason="The listing was not finished.")

    def __iter__(self) -> Iterator[StudyInfo]:
        self._node._look(self._abort, anew=True)
        listing = self._node._scan.listing
        count = 0
        for study in self._node._scan.index.studies():
            if self._abort is not None:
                self._abort.check()
            if matches(self._query, study):
                count += 1
                yield study
        self._outcome = Listing(count, listing.complete, listing.reason)

    @property
    def outcome(self) -> Listing:
        return self._outcome


class _FileStream(LocalStream):
    """A file below the folder, in which others may write."""

    def __init__(self, file: BinaryIO, length: int, node: str, abort: Abort | None) -> None:
        super().__init__(
            file, length, node, abort,
            shorter="A file in “{node}” became shorter while it was read.",
            next_step="It is tried again; wait until whatever writes there is done.",
        )  # fmt: skip


@contextlib.contextmanager
def speaking_unless_exists(node: str) -> Iterator[None]:
    """As `speaking`, but a name that is taken stays a `FileExistsError`."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise local_error(error, node) from error
