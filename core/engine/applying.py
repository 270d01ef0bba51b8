"""Applying the steps of a job to one instance: from the source's bytes to what a destination is given."""

from __future__ import annotations

import contextlib
import logging
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from core.engine.carried import md5
from core.engine.changed_file import (
    IN_MEMORY,
    DicomContent,
    Segments,
    copied,
    drop_signatures,
    encoded,
    opened,
    parse,
    temporary_file,
)
from core.model import held_file
from core.model.errors import FerryError, LocalError, TransportError, TransportFault
from core.model.quietly import silence_pydicom
from core.model.steps import Change
from core.model.study import InstanceRef, StudyInfo
from core.nodes.base import ByteStream
from core.steps.base import Step, StepError, WholeFile

log = logging.getLogger(__name__)

BLOCK = 1 << 20
SIGNATURES_GONE = "Digital signatures removed: they no longer held."
_UID = re.compile(r"[0-9]+(\.[0-9]+)*\Z")


@dataclass(frozen=True, slots=True)
class TitledStep:
    """An opened step with the title that people know it by."""

    title: str
    step: Step


@dataclass(slots=True)
class Made:
    """What came of an instance; to be closed when it was sent.

    Attributes
    ----------
    study, instance : StudyInfo, InstanceRef
        As the destination is to know them.
    body : Segments
        The file (PS3.10) that is sent; can be rewound.
    content : DicomContent
        The data set as it is now.
    """

    change: Change
    study: StudyInfo
    instance: InstanceRef
    body: Segments
    content: DicomContent
    files: list[BinaryIO]

    def close(self) -> None:
        self.content.close()
        for file in self.files:
            file.close()


def received(stream: ByteStream, folder: Path | None, pace: Callable[[int], None], name: str) -> tuple[BinaryIO, str]:
    """Read an instance whole, to memory or a file of the moment by its size; with its MD5.

    Raises
    ------
    TransportError
        It broke off.
    LocalError
        There is no room for it on this computer.
    """
    small = stream.length is not None and stream.length <= IN_MEMORY
    try:
        file: BinaryIO = BytesIO() if small else temporary_file(folder)
    except OSError as error:
        raise no_room(error) from error
    hasher = md5()
    buffer = memoryview(bytearray(BLOCK if stream.length is None else min(BLOCK, stream.length) or 1))
    count = 0
    try:
        while got := stream.readinto(buffer):
            hasher.update(buffer[:got])
            try:
                file.write(buffer[:got])
            except OSError as error:
                raise no_room(error) from error
            count += got
            pace(got)
        if stream.length is not None and count != stream.length:
            raise TransportError(
                TransportFault.CUT, f"{name} broke off in the middle of an image.", "It is tried again."
            )
    except BaseException:
        file.close()
        raise
    return file, hasher.hexdigest()


def no_room(error: OSError) -> LocalError:
    """A file of the moment can't be written here."""
    return LocalError(
        f"This computer has no room for an image while its steps are done ({error.strerror or error}).",
        "Free space on the disk that holds DICOM Ferry's folder; it is tried again.",
        detail=repr(error),
        code="scratch-full",
    )


def apply(steps: Sequence[TitledStep], content: DicomContent, folder: Path | None) -> tuple[DicomContent, list[str]]:
    """Do all steps in their order; the data set as it is then, and each step by its title with what it did.

    `content` belongs to what is given back. No sentences: nothing was changed.

    Raises
    ------
    StepError
        `content` is closed then.
    """
    done: list[str] = []
    try:
        for titled in steps:
            step = titled.step
            try:
                if isinstance(step, WholeFile):
                    content, said = _through_files(titled, step, content, folder, changed=bool(done))
                else:
                    said = step.apply(content.dataset)
            except FerryError:
                raise
            except OSError as error:
                raise no_room(error) from error
            except Exception as error:  # whatever hostile data makes a step run into: nothing is sent
                log.warning("the step %s: %s", titled.title, type(error).__name__)
                raise StepError(
                    f"The step “{titled.title}” could not work on the image.",
                    "Look at the image with “Preview” in the list of steps; nothing of it was sent.",
                    detail=type(error).__name__,
                    code="step-failed",
                ) from error
            done += [f"{titled.title}: {sentence}" for sentence in said]
        if done and drop_signatures(content):
            done.append(SIGNATURES_GONE)
        _require_identified(content)
    except BaseException:
        content.close()
        raise
    return content, done


def make(
    steps: Sequence[TitledStep], file: BinaryIO, source_digest: str, instance: InstanceRef, folder: Path | None
) -> Made:
    """What becomes of one instance. `file` belongs to what is given back; it is closed when this raises.

    Raises
    ------
    StepError
        Nothing may be sent.
    LocalError
    """
    silence_pydicom()
    try:
        content = parse(file, folder)
    except BaseException as error:
        file.close()
        if isinstance(error, OSError):
            raise no_room(error) from error
        raise
    content, done = apply(steps, content, folder)
    files: list[BinaryIO] = []
    try:
        if done:
            body, files = encoded(content, folder)
            hasher = md5()
            for block in body.blocks():
                hasher.update(block)
            digest = hasher.hexdigest()
        else:
            body, digest = content.unchanged, source_digest
        return _made(content, body, files, digest, source_digest, done)
    except BaseException as error:
        content.close()
        for one in files:
            one.close()
        if isinstance(error, OSError):
            raise no_room(error) from error
        raise


def _made(
    content: DicomContent, body: Segments, files: list[BinaryIO], digest: str, source_digest: str, done: list[str]
) -> Made:
    text = content.text
    study = StudyInfo(
        study_uid=text(0x0020000D),
        patient_name=text(0x00100010),
        patient_id=text(0x00100020),
        birth_date=text(0x00100030),
        sex=text(0x00100040),
        study_date=text(0x00080020),
        study_time=text(0x00080030),
        description=text(0x00081030),
        accession=text(0x00080050),
        modalities=tuple(m for m in (text(0x00080060),) if m),
    )
    ref = InstanceRef(
        sop_uid=text(0x00080018),
        series_uid=text(0x0020000E),
        study_uid=study.study_uid,
        size=body.size,
        digest=digest,
        transfer_syntax=content.syntax,
        sop_class=text(0x00080016),
        patient_id=study.patient_id,
    )
    change = Change(
        ref.sop_uid, ref.series_uid, ref.study_uid, ref.patient_id, source_digest, digest, body.size, tuple(done)
    )
    return Made(change, study, ref, body, content, files)


def _through_files(
    titled: TitledStep, step: WholeFile, content: DicomContent, folder: Path | None, *, changed: bool
) -> tuple[DicomContent, tuple[str, ...]]:
    place = Path(tempfile.mkdtemp(prefix="step-", dir=folder))
    try:
        files: list[BinaryIO] = []
        if changed:
            body, files = encoded(content, folder)
        else:
            body = content.unchanged
        try:
            copied(body, place / "input.dcm")
        finally:
            for file in files:
                file.close()
        said = step.transform(place / "input.dcm", place / "output.dcm")
        if not said:
            return content, ()
        new = parse(opened(place / "output.dcm", folder), folder)
    finally:
        with contextlib.suppress(OSError):  # swept at the next start
            held_file.remove_tree(place)
    content.close()
    return new, said


def _require_identified(content: DicomContent) -> None:
    """No node could take, list or confirm it otherwise."""
    for tag, words in (
        (0x00080016, "SOP Class UID"),
        (0x00080018, "SOP Instance UID"),
        (0x0020000E, "Series Instance UID"),
        (0x0020000D, "Study Instance UID"),
    ):
        uid = content.text(tag)
        if not _UID.match(uid) or len(uid) > 64:
            raise StepError(
                f"After the steps the image has no valid {words}.",
                "Leave that tag alone, or set it to a UID.",
                code="step-no-identity",
            )


def sweep(folder: Path) -> None:
    """Remove what a killed program left in the folder for files of the moment."""
    for left in folder.glob("step-*"):
        with contextlib.suppress(OSError):  # in use by an antivirus scanner: gone at the next start
            if left.is_dir():
                held_file.remove_tree(left)
            else:
                held_file.unlink(left)
