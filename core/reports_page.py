"""A job's report as one HTML page that needs nothing but itself: to be read, printed and kept."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TextIO

from core.model.events import TransferRow
from core.model.job import JobRecord
from core.model.outcome import STUDY_STATE_WORDS, Counts, DeliveryState, Method, SourceState, StudyState
from core.model.views import DeliveryRow, FailureGroup

METHOD_WORDS = {
    Method.COMMITMENT: "storage commitment",
    Method.DIGEST: "same digest on both sides",
    Method.UID: "listed by its UID",
    Method.HEADER: "listed; re-encoded, all other attributes equal",
    Method.ACKNOWLEDGEMENT: "acknowledged",
}
_COLOURS = {
    StudyState.SENDING: "blue",
    StudyState.CONFIRMING: "blue",
    StudyState.SENT: "amber",
    StudyState.CONFIRMED: "green",
    StudyState.COMMITTED: "green",
    StudyState.DIFFERENT: "amber",
    StudyState.ATTENTION: "red",
    StudyState.FAILED: "red",
}
_IMAGE_WORDS = {
    DeliveryState.PLANNED: ("Waiting", "grey"),
    DeliveryState.SENDING: ("Sending", "blue"),
    DeliveryState.SENT: ("Sent, not confirmed", "amber"),
    DeliveryState.VERIFIED: ("Confirmed", "green"),
    DeliveryState.COMMITTED: ("Committed", "green"),
    DeliveryState.SKIPPED: ("Already there", "grey"),
    DeliveryState.CONFLICT: ("Different at destination", "amber"),
    DeliveryState.FAILED: ("Failed", "red"),
    DeliveryState.CANCELLED: ("Cancelled", "grey"),
}
# Printing shows what is folded away on the screen.
_SCRIPT = (
    "addEventListener('beforeprint',()=>document.querySelectorAll('details').forEach(d=>{d.was=d.open;d.open=true}));"
    "addEventListener('afterprint',()=>document.querySelectorAll('details').forEach(d=>{d.open=d.was}))"
)


def write_page(
    job: JobRecord,
    counts: Counts,
    failures: Sequence[FailureGroup],
    studies: Iterable[tuple[TransferRow, Iterator[DeliveryRow]]],
    out: TextIO,
    *,
    mapping: bool = False,
) -> int:
    """Write the page; the number of images on it. `mapping` as for `core.reports.write_report`."""
    style = importlib.resources.files("resources").joinpath("report/report.css").read_text(encoding="utf-8")
    out.write(
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(job.name)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>\n{style}</style></head><body><main>\n"
    )
    _head(job, counts, out)
    for group in failures:
        images = "1 image" if group.count == 1 else f"{group.count:,} images"
        out.write(
            f'<div class="trouble"><b>{images} at {escape(group.node)}:</b> {escape(group.failure.sentence)}'
            f"<br><small>{escape(group.failure.next_step)}</small></div>\n"
        )
    out.write("<h2>Studies</h2>\n")
    written = 0
    for row, images_of in studies:
        written += _study(row, images_of, out, mapping)
    if not written:
        out.write('<p class="soft">No images.</p>\n')
    out.write(
        f"<footer>DICOM Ferry, {_time(datetime.now(UTC))}. This report holds patient data. "
        "It documents a transfer and is not for diagnosis.</footer>\n"
        f"</main><script>{_SCRIPT}</script></body></html>\n"
    )
    return written


def _head(job: JobRecord, counts: Counts, out: TextIO) -> None:
    out.write(f"<h1>{escape(job.name)}</h1>\n")
    out.write(
        f'<p class="soft">{escape(", ".join(job.sources))} → {escape(", ".join(job.destinations))} · '
        f"{escape(job.kind)} · job {job.id}, pass {job.pass_number} · {escape(job.state.value)}</p>\n"
    )
    tiles = [(counts.total, "images planned", "")]
    tiles += [
        (number, word, colour)
        for number, word, colour in (
            (counts.committed, "committed", "green"),
            (counts.verified, "confirmed", "green"),
            (counts.skipped, "already there", "grey"),
            (counts.sent, "sent, not confirmed", "amber"),
            (counts.planned + counts.sending, "still to do", "blue"),
            (counts.conflict, "different at destination", "amber"),
            (counts.failed, "failed", "red"),
            (counts.cancelled, "cancelled", "grey"),
            (job.left_out, "left out by the filter", "grey"),
        )
        if number
    ]
    out.write('<div class="tiles">')
    for number, word, colour in tiles:
        out.write(f'<div class="tile"><b class="{colour}">{number:,}</b><small>{word}</small></div>')
    out.write(
        f'<div class="tile"><b>{counts.bytes_done / 1e6:,.1f} MB</b><small>carried or there</small></div></div>\n'
    )
    out.write(
        f'<dl class="facts"><dt>Begun</dt><dd>{_time(job.started)}</dd><dt>Ended</dt><dd>{_time(job.finished)}</dd>'
    )
    if job.problem:
        out.write(f'<dt>Problem</dt><dd class="red">{escape(job.problem)}</dd>')
    out.write("</dl>\n")


def _study(row: TransferRow, images: Iterator[DeliveryRow], out: TextIO, mapping: bool) -> int:
    s = row.study
    state, colour = STUDY_STATE_WORDS[row.state], _COLOURS.get(row.state, "grey")
    troubled = row.state in (StudyState.ATTENTION, StudyState.FAILED, StudyState.DIFFERENT)
    instead = f" (instead of {escape(row.instead_of)})" if row.instead_of else ""
    about = " · ".join(
        escape(t) for t in (_date(s.study_date), "/".join(s.modalities), s.description, s.accession) if t
    )
    out.write(
        f"<details{' open' if troubled else ''}><summary>"
        f'<span class="who">{escape(_name(s.patient_name) or "No name")}</span><span>{escape(s.patient_id)}</span>'
        f"<span>{about}</span><span>{escape(row.source)} → {escape(row.destination)}{instead}</span>"
        f'<span>{row.counts.total:,} images</span><span class="state {colour}">{escape(state)}</span></summary>\n'
        f'<p class="soft" style="margin:0 14px 8px">Study {escape(s.study_uid)}'
        f"{f' · {escape(row.path)}: {escape(row.path_reason)}' if row.path else ''}</p>\n"
        "<table><thead><tr><th>SOP Instance UID</th><th>Size</th><th>State</th><th>Sent</th><th>Answer</th>"
        "<th>Proof</th></tr></thead><tbody>\n"
    )
    written = 0
    for image in images:
        out.write(_image(image, mapping))
        written += 1
    out.write("</tbody></table></details>\n")
    return written


def _image(image: DeliveryRow, mapping: bool) -> str:
    change = image.change
    told = mapping or change is None or not change.done
    word, colour = _IMAGE_WORDS[image.state]
    if image.source_state is SourceState.DELETED:
        word += "; deleted at the source"
    proof = ""
    if image.evidence:
        digest = f"<br><small>MD5 {escape(image.evidence.digest)}</small>" if image.evidence.digest and told else ""
        note = f"<br><small>{escape(image.evidence.note)}</small>" if image.evidence.note else ""
        proof = f"{METHOD_WORDS[image.evidence.method]}, {_time(image.evidence.at)}{digest}{note}"
    if image.failure and image.state in (DeliveryState.FAILED, DeliveryState.CONFLICT, DeliveryState.PLANNED):
        step = f"<br><small>{escape(image.failure.next_step)}</small>" if image.failure.next_step else ""
        proof += f'{"<br>" if proof else ""}<span class="red">{escape(image.failure.sentence)}</span>{step}'
    if change and change.done:
        proof += f"{'<br>' if proof else ''}<small>{escape(' '.join(change.done))}</small>"
        if mapping:
            proof += f'<br><small class="uid">sent as {escape(change.sop_uid)}</small>'
    size = "" if image.size is None else f"{image.size:,}"
    return (
        f'<tr><td class="uid">{escape(image.sop_uid)}</td><td class="number">{size}</td>'
        f'<td class="{colour}">{word}</td><td>{_time(image.sent_at)}</td><td>{escape(image.answer)}</td>'
        f"<td>{proof}</td></tr>\n"
    )


def _name(name: str) -> str:
    """Patient name as people write it: "FAMILY, Given", and the other scripts behind it (PS3.5 6.2.1.1)."""
    groups = [", ".join(p for p in group.split("^")[:2] if p) for group in name.split("=")]
    return " · ".join(g for g in groups if g)


def _date(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
