"""Trying out what a DICOM node can do: its lists, and one small image by C-GET and by C-MOVE."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.model.diagnosis import AcceptedContexts, DiagnosisStep, StepResult
from core.model.errors import AnswerError, FerryError, TransportError, TransportFault
from core.model.study import InstanceRef, StudyInfo, StudyQuery
from core.nodes.base import Dimse
from core.nodes.dicom.asking import DicomFind, images_in
from core.nodes.dicom.fields import Retrieve
from core.nodes.dicom.retrieve import DicomRetrieve
from core.nodes.dicom.shelf import Held
from core.nodes.search.answers import image_keys, instance_ref, number, series_info, series_keys, study_keys
from core.nodes.search.parts import as_date
from core.wire.dimse.retrieval import Model
from core.wire.dimse.sop_classes import name_of
from core.wire.found import Answer

MOST_STUDIES = 2000  # answers after which a list is long enough to judge by
SMALL = 16 << 20  # bytes of an image that may be fetched to try it
_SERIES_LOOKED_AT = 5
_NOBODYS_UID = "2.25.329800735698586629295641978511506172918"  # random: no image has it
_SIZE_KEYS = ("Rows", "Columns", "NumberOfFrames")
_BYTES_A_PIXEL = 3
_SLIM = frozenset(
    ("CT", "MR", "PT", "NM", "CR", "SR", "KO", "PR", "DOC", "SC", "OT")
)  # modalities, where no more is told
_TALL = ("Whole Slide", "Video", "Multi-frame", "Enhanced", "Tomosynthesis", "Raw")


@dataclass
class Found:
    """What the steps so far found out; None where it was not."""

    our_address: str = ""
    implementation: str = ""
    offered: frozenset[str] = frozenset()
    services: tuple[str, ...] = ()
    studies: list[Answer] | None = None
    study: Answer | None = None
    image: InstanceRef | None = None
    images: tuple[InstanceRef, ...] = ()
    image_find: bool | None = None
    uid_lists: bool | None = None
    gets: bool | None = None
    moves_here: bool | None = None
    commitment: bool | None = None
    find_limit: int = 0
    accepted: tuple[AcceptedContexts, ...] = ()
    why_no_image: str = ""

    @property
    def retrieve(self) -> str:
        """How images are best fetched."""
        if self.gets:
            return Retrieve.C_GET.value
        return Retrieve.C_MOVE.value if self.gets is False and self.moves_here is not False else ""


Trial = Callable[[], DiagnosisStep]


def steps(way: Sequence[tuple[str, Trial]], abilities: Sequence[tuple[str, Trial]]) -> Iterator[DiagnosisStep]:
    """The way there, then what can be done there; only what stands in the way of the rest lets it be skipped."""
    blocked = ""
    for at, (name, trial) in enumerate((*way, *abilities)):
        if blocked:
            yield DiagnosisStep(name, StepResult.SKIPPED, f"not tried, because “{blocked}” failed")
            continue
        try:
            step = trial()
        except FerryError as error:
            step = failed(name, error)
        if step.result is StepResult.FAILED and at < len(way):
            blocked = name
        yield step


def failed(name: str, error: FerryError) -> DiagnosisStep:
    return DiagnosisStep(name, StepResult.FAILED, error.sentence, error.next_step, error.detail)


class DicomTrials(DicomFind, DicomRetrieve):
    """What `Diagnose` tries of a DICOM node beyond the way there."""

    # --- lists ---

    def lists_studies(self, name: str, found: Found) -> DiagnosisStep:
        if Model.STUDY_ROOT.find not in found.offered:
            return DiagnosisStep(
                name,
                StepResult.WARNING,
                "It offers us no C-FIND (Study Root): it can be neither a source nor asked what has arrived.",
                "Ask the PACS administrator to let this AE title query, if it is to be more than a place to send to.",
            )
        began = time.perf_counter()
        keys = study_keys(StudyQuery(), any_letters=False)
        try:
            asked = self.ask(keys, most=MOST_STUDIES)
        except TransportError as error:
            if error.fault is not TransportFault.CUT:
                raise
            return DiagnosisStep(
                name,
                StepResult.FAILED,
                f"It lets us in, but breaks off when it is asked: {error.sentence}",
                "Many servers answer only AE titles that they know: ask the PACS administrator to enter this one.",
                error.detail,
                self.for_the_administrator(found),
            )
        took = time.perf_counter() - began
        found.studies = asked.answers
        if asked.failure is not None:
            return DiagnosisStep(
                name,
                StepResult.WARNING,
                f"It gave {len(asked.answers)} studies and then broke its list off.",
                "Jobs ask for shorter ranges of dates by themselves. " + asked.failure.next_step,
                f"{asked.failure.sentence} {asked.failure.detail}".strip(),
            )
        many = f"more than {MOST_STUDIES}" if asked.broken_off else str(asked.count)
        return DiagnosisStep(name, StepResult.OK, f"{many} {'study' if many == '1' else 'studies'} in {took:.1f} s")

    def gives_whole_lists(self, name: str, found: Found) -> DiagnosisStep:
        """A list of a round number is asked for again in two halves: together they tell whether it was cut off."""
        studies = found.studies
        if not studies:
            return _skipped(name, "no list of studies to judge by")
        count = len(studies)
        if count > MOST_STUDIES:
            return DiagnosisStep(name, StepResult.OK, f"no limit below {MOST_STUDIES} answers")
        if not self.answer_limit.suspects(count):
            return DiagnosisStep(name, StepResult.OK, "no sign of a limit")
        days = sorted(d for d in (as_date(s.get("StudyDate", "")) for s in studies) if d is not None)
        if not days or days[0] == days[-1]:
            return DiagnosisStep(
                name, StepResult.WARNING, f"{count} answers may be a limit: it can't be told.", _LIMIT_STEP
            )
        middle = days[(len(days) - 1) // 2]
        halves = 0
        with self.asking() as ask:
            for dates in (f"-{middle:%Y%m%d}", f"{middle.fromordinal(middle.toordinal() + 1):%Y%m%d}-"):
                halves += ask(study_keys(StudyQuery(), any_letters=False) | {"StudyDate": dates}).count
        if halves <= count:
            self.answer_limit.whole_with(count)
            return DiagnosisStep(name, StepResult.OK, f"{count} answers are all of them")
        found.find_limit = count
        return DiagnosisStep(
            name,
            StepResult.WARNING,
            f"It gives {count} answers at most, and does not say that there are more ({halves} in two halves).",
            _LIMIT_STEP,
        )

    def lists_images(self, name: str, found: Found) -> DiagnosisStep:
        """The images of one series of the study with the fewest."""
        if not found.studies:
            return _skipped(name, "it lists no study to look into")
        found.study = min(found.studies, key=_by_count)
        study_uid = found.study.get("StudyInstanceUID", "")
        try:
            with self.asking() as ask:
                listed = ask(series_keys(study_uid))
                series = [s for s in listed.answers if s.get("SeriesInstanceUID")]
                if not series:
                    found.image_find = False
                    return self._no_images(name, "it lists no series of a study that it lists")
                for one in sorted(series, key=_by_series_count)[:_SERIES_LOOKED_AT]:
                    uid = one["SeriesInstanceUID"]
                    images = images_in(ask(image_keys(study_uid, uid, more=_SIZE_KEYS)), study_uid, uid)
                    if images:
                        self._remember(found, one, images)
                        break
        except AnswerError as error:
            found.image_find = False
            return self._no_images(name, error.sentence, error.detail)
        found.image_find = bool(found.images)
        if not found.images:
            return self._no_images(name, "it lists no image of a series that it lists")
        kinds = "" if found.images[0].sop_class else ", but not of which kind they are (SOP class)"
        return DiagnosisStep(name, StepResult.OK, f"{len(found.images)} in a series{kinds}")

    def _no_images(self, name: str, why: str, detail: str = "") -> DiagnosisStep:
        return DiagnosisStep(
            name,
            StepResult.WARNING,
            f"It does not list images: {why.rstrip('.')}.",
            "What is sent there can't be confirmed image by image, and it can't be a source. Ask the PACS "
            "administrator whether C-FIND at the level of images can be switched on.",
            detail,
        )

    def _remember(self, found: Found, series: Answer, images: list[Answer]) -> None:
        assert found.study is not None
        study = StudyInfo(found.study.get("StudyInstanceUID", ""), patient_id=found.study.get("PatientID", ""))
        info = series_info(series)
        found.images = tuple(instance_ref(image, study, info) for image in images)
        sizes = ((_size(image, info.modality), image["SOPInstanceUID"]) for image in images)
        small = [(size, uid) for size, uid in sizes if size is not None]
        if not small:
            found.why_no_image = "it is not known to be small"
        elif min(small)[0] > SMALL:
            found.why_no_image = f"the images looked at have {min(small)[0] >> 20} MB"
        else:
            uid = min(small)[1]
            found.image = next(one for one in found.images if one.sop_uid == uid)

    def takes_lists(self, name: str, found: Found) -> DiagnosisStep:
        """Two UIDs in one question (PS3.4 C.2.2.2.2): both images have to come, and no others."""
        if not found.images:
            return _skipped(name, "it lists no images to try it with")
        first = found.images[0]
        wanted = {one.sop_uid for one in found.images[:2]}
        asked = [*sorted(wanted), _NOBODYS_UID]
        try:
            with self.asking() as ask:
                told = ask(image_keys(first.study_uid, first.series_uid, asked))
                got = {a["SOPInstanceUID"] for a in images_in(told, first.study_uid, first.series_uid)}
        except AnswerError as error:
            found.uid_lists = False
            return DiagnosisStep(name, StepResult.OK, "no: it is asked for one image at a time", detail=error.detail)
        found.uid_lists = got == wanted
        if found.uid_lists:
            return DiagnosisStep(name, StepResult.OK, "several images with one question")
        how = "gives the whole series then" if got > wanted else "does not answer them"
        return DiagnosisStep(name, StepResult.OK, f"no: it {how}; it is asked for one image at a time")

    # --- images ---

    def gives_images(self, name: str, found: Found) -> DiagnosisStep:
        """One small image by C-GET."""
        offered = {Model.STUDY_ROOT.get, Model.PATIENT_ROOT.get} & found.offered
        if not offered:
            found.gets = False
            return DiagnosisStep(name, StepResult.OK, "not offered; images are fetched by C-MOVE to this computer")
        if found.image is None:
            return _skipped(name, found.why_no_image or "no image to try it with")
        began = time.perf_counter()
        came: list[int] = []
        reasons = self._get([found.image], self._counted(came), None)
        took = (time.perf_counter() - began) * 1000
        found.gets = bool(came)
        if came:
            return DiagnosisStep(name, StepResult.OK, f"an image of {came[0] / 1000:.0f} kB in {took:.0f} ms")
        error = reasons.get(found.image.sop_uid)
        return DiagnosisStep(
            name,
            StepResult.WARNING,
            error.sentence if error is not None else "The image did not come.",
            "Images are fetched by C-MOVE to this computer then; see the next step.",
            error.detail if error is not None else "",
        )

    def sends_images_here(self, name: str, found: Found) -> DiagnosisStep:
        """One small image by C-MOVE to this computer."""
        if not {Model.STUDY_ROOT.move, Model.PATIENT_ROOT.move} & found.offered:
            found.moves_here = False
            return DiagnosisStep(
                name,
                StepResult.WARNING if found.gets is False else StepResult.OK,
                "C-MOVE is not offered" + (", nor is C-GET: no image can be had from it." if not found.gets else "."),
                "As a destination nothing is to do." if found.gets is False else "",
            )
        landing = self.context.landing()
        if landing is None:
            return _skipped(name, "no “This computer” node listens in this program now")
        if found.image is None:
            return _skipped(name, found.why_no_image or "no image to try it with")
        came: list[int] = []
        began = time.perf_counter()
        try:
            reasons = self._move_here([found.image], self._counted(came), None)
        except FerryError as error:
            reasons = {found.image.sop_uid: error}
        took = (time.perf_counter() - began) * 1000
        found.moves_here = bool(came)
        if came:
            return DiagnosisStep(name, StepResult.OK, f"an image of {came[0] / 1000:.0f} kB in {took:.0f} ms")
        reason = reasons.get(found.image.sop_uid)
        return DiagnosisStep(
            name,
            StepResult.WARNING if found.gets else StepResult.FAILED,
            reason.sentence if reason is not None else "The image did not arrive.",
            f"The node must know “{landing.aet}” as a destination: ask the PACS administrator to enter it, and check "
            "that no firewall keeps its connection to this computer out.",
            reason.detail if reason is not None else "",
            self.for_the_administrator(found),
        )

    def _counted(self, came: list[int]) -> Callable[[Held], None]:
        def count(held: Held) -> None:
            came.append(held.length or 0)
            self._shelf.drop(held)

        return count

    def for_the_administrator(self, found: Found) -> str:
        """What the other side has to enter, to be pasted into a message."""
        landing = self.context.landing()
        lines = [
            f"Please let this application entity use {self.fields.aet} ({self.fields.host}, port {self.fields.port}):",
            f"  AE title: {self.fields.calling_aet}",
            f"  Address: {found.our_address or 'that of the computer that DICOM Ferry runs on'}",
            "  Services that it uses: C-ECHO, C-FIND, C-MOVE or C-GET, C-STORE, storage commitment",
        ]
        if landing is not None:
            port = f", port {landing.dicom_address().port}" if isinstance(landing, Dimse) else ""
            lines.append(f"  Destination for C-MOVE: AE title {landing.aet}, at the same address{port}")
        return "\n".join(lines)


_LIMIT_STEP = "Nothing is to do: jobs ask for shorter ranges of dates. The PACS administrator can raise the limit."


def _skipped(name: str, why: str) -> DiagnosisStep:
    return DiagnosisStep(name, StepResult.SKIPPED, f"not tried: {why}")


def _by_count(study: Answer) -> tuple[bool, int]:
    """Studies with two images or more first, the smallest of them in front: a list of UIDs wants two."""
    count = number(study, "NumberOfStudyRelatedInstances")
    return (count is None or count < 2, count if count is not None else 0)


def _by_series_count(series: Answer) -> tuple[bool, int]:
    count = number(series, "NumberOfSeriesRelatedInstances")
    return (count is None or count < 2, count if count is not None else 0)


def _size(image: Mapping[str, str], modality: str) -> int | None:
    """About how many bytes an image has; None where it can't be told."""
    rows, columns, frames = (number(image, keyword) for keyword in _SIZE_KEYS)
    if rows and columns:
        return rows * columns * (frames or 1) * _BYTES_A_PIXEL
    kind = name_of(image.get("SOPClassUID", ""))
    slim = not any(word in kind for word in _TALL) if kind else modality in _SLIM
    return SMALL // 2 if slim else None
