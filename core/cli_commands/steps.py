"""`dicom-ferry steps`: which processing steps there are, and what they would make of an image."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from core.cli_commands.interruption import Interruption
from core.cli_commands.opening import opened
from core.cli_commands.speaking import Speaker, exit_with, speaking
from core.model.errors import ConfigurationError
from core.model.fields import form_fields
from core.model.step_preview import StepsPreview, TagState
from core.model.steps import parse_step
from core.wire.http import Abort

_HELP = "\n\n".join(
    (
        "Processing steps change images on their way: run forward … --step 'KIND name=value name=\"two words\"'; "
        "several are done one after the other. An image of which a step fails is not sent.",
        "A value with spaces stands in quotation marks, a quotation mark in it is doubled.",
    )
)
_STYLES = {TagState.CHANGED: "yellow", TagState.ADDED: "green", TagState.REMOVED: "red", TagState.SAME: "dim"}
_SIGNS = {TagState.CHANGED: "~", TagState.ADDED: "+", TagState.REMOVED: "-", TagState.SAME: " "}

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


@app.command()
def kinds(json: Json = False) -> None:
    """List the kinds of steps with their fields."""
    with speaking(json=json) as speaker, opened() as home:
        for name, kind in sorted(home.steps.kinds().items()):
            fields = form_fields(kind.Fields)
            speaker.data(
                "step-kind", kind=name, title=kind.title, summary=kind.summary,
                fields=[
                    {"name": f.name.replace("_", "-"), "title": f.title, "help": f.help, "required": f.required,
                     "choices": [value for value, _label in f.choices]}
                    for f in fields
                ],
            )  # fmt: skip
            speaker.say(f"{name}: {kind.summary}", "bold")
            for f in fields:
                words = f.help or f.title
                if f.choices:
                    words += " " + "; ".join(f"“{value}”: {label}" for value, label in f.choices) + "."
                needed = " [needed]" if f.required else ""
                speaker.say(f"  {f.name.replace('_', '-')}=…  {words}{needed}")
            speaker.say("")


@app.command()
def preview(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of a registered node that gives the image.")],
    step: Annotated[list[str], typer.Option("--step", metavar="STEP", help="A step; give it once for each.")],
    study: Annotated[str, typer.Option(metavar="UID", help="Study Instance UID; by default any study.")] = "",
    image: Annotated[str, typer.Option(metavar="UID", help="SOP Instance UID; by default any of the study.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Show unchanged tags, too.")] = False,
    json: Json = False,
) -> None:
    """Show what steps would make of a real image, tag by tag. Nothing is sent or kept.

    Exit status 1 when a step fails, so that the image would not be sent. What is shown is patient data.
    """
    stop = Abort()
    status = 0
    with speaking(json=json) as speaker, Interruption(stop.abort), opened() as home:
        if image and not study:
            raise ConfigurationError("An image is looked for in its study.", "Give --study, too.", code="preview")
        choices = home.steps.checked(parse_step(text) for text in step)
        found = home.steps.preview(node, choices, study_uid=study, sop_uid=image, abort=stop)
        _say(speaker, found, everything=everything)
        status = 1 if found.failure else 0
    exit_with(status)


def _say(speaker: Speaker, found: StepsPreview, *, everything: bool) -> None:
    rows = found.rows if everything else found.changes
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("", "Tag", "Name", "Before", "After"):
        table.add_column(head, overflow="fold", no_wrap=head in ("", "Tag"))
    for row in rows:
        speaker.data(
            "tag", path=row.path, name=row.name, vr=row.vr, state=row.state.value, before=row.before, after=row.after
        )
        style = _STYLES[row.state]
        cells = (_SIGNS[row.state], row.path, row.name, row.before, row.after)
        table.add_row(*(escape(c) for c in cells), style=style)
    speaker.data(
        "finished", study_uid=found.study_uid, series_uid=found.series_uid, sop_uid=found.sop_uid,
        changed=len(found.changes), done=list(found.done), failure=found.failure,
    )  # fmt: skip
    if found.title:
        speaker.say(found.title, "bold")
    speaker.say(f"SOP Instance UID {found.sop_uid}", "dim")
    if rows and not speaker.json:
        speaker.show(table)
    for sentence in found.done:
        speaker.say(sentence)
    if found.failure:
        speaker.remark(f"This image would not be sent. {found.failure}", "red")
    elif not found.changes:
        speaker.say("The steps change nothing in this image: it would be sent as it is.")
