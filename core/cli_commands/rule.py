"""`dicom-ferry rule`: what a rule means, what it takes of what a node holds, and which tags there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from core.cli_commands.interruption import Interruption
from core.cli_commands.opening import opened
from core.cli_commands.speaking import INTERRUPTED, Speaker, exit_with, speaking
from core.model.rules import Rule, RuleError, parse_rule
from core.model.rules.tags import tag_choices, tag_key, title_of
from core.model.rules.words import in_words, remarks, sentence
from core.rule_trial import Example, Trial, TrialLimits, Verdict, try_rule
from core.wire.http import Abort

_HELP = "\n\n".join(
    (
        "Rules choose what a job carries: --filter 'Modality = CT and StudyDate >= 20200101'.",
        "A condition is a tag, an operator and a value. Tags are named by keyword (StudyDate), number "
        "((0008,0020), private ones too) or path (RequestAttributesSequence.ScheduledProcedureStepID); "
        "`dicom-ferry rule tags WORDS` finds them.",
        "Operators: = != < <= > >=, ~ and !~ with the wildcards * and ?, in and not in with a list (CT, MR), between A "
        "and B, in last 7 days, older than 6 months, is empty, is present. Conditions are joined by and, or, and "
        "brackets. Quotes hold what has blanks, commas or brackets in it.",
        "Case makes no difference. Names match by family^given in any of their spellings, dates as far as they go "
        "(StudyDate <= 2020 is the whole of 2020). What a tag has several values of matches when one of them does. A "
        "tag without a value is not anything (!=, !~, not in), and neither before nor after anything.",
        "Modality is looked at image by image: Modality = CT takes the CT images of a study with CT and SR. "
        "ModalitiesInStudy = CT takes all of that study.",
    )
)
_POINTER = 100  # characters of a rule that are shown around a mistake

app = typer.Typer(help=_HELP, no_args_is_help=True, rich_markup_mode=None)

RuleText = Annotated[str, typer.Argument(metavar="RULE", help="In quotes: 'Modality = CT and StudyDate >= 20200101'.")]
Json = Annotated[bool, typer.Option("--json", help="Write JSON objects, one a line.")]


@app.command()
def explain(rule: RuleText, json: Json = False) -> None:
    """Say what a rule means, or what is wrong with it and where."""
    with speaking(json=json) as speaker, _pointing(speaker, rule):
        read = parse_rule(rule)
        lines = in_words(read)
        speaker.data(
            "rule", text=str(read), sentence=sentence(read), lines=[{"depth": n.depth, "text": n.text} for n in lines],
            tags=sorted(read.tags), remarks=list(remarks(read)),
        )  # fmt: skip
        for line in lines:
            speaker.say("  " * line.depth + line.text)
        if read.parts:
            speaker.say(f"\nAs text: {read}", "dim")
        _say_remarks(speaker, read)


@app.command("test")
def try_on(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Name of a registered node.")],
    rule: RuleText,
    studies: Annotated[int, typer.Option(min=1, help="Look at so many studies at most.")] = 100_000,
    look_into: Annotated[
        int, typer.Option(min=0, help="Look into so many studies where it depends on their images.")
    ] = 200,
    every_image: Annotated[
        bool, typer.Option("--every-image", help="Look at all of their images, and not at some of each series.")
    ] = False,
    json: Json = False,
) -> None:
    """Hold a rule against the studies of a node: how many it takes, and some of them. Nothing is sent.

    Exit status 1 when the node would not vouch for its list, or could not tell what the rule looks at.
    """
    stop = Abort()
    status = 0
    with speaking(json=json) as speaker, _pointing(speaker, rule), Interruption(stop.abort), opened() as home:
        read = parse_rule(rule)
        limits = TrialLimits(studies, look_into, every_image)
        watch = _Watch(speaker)
        trial = try_rule(home.nodes, [node], read, limits=limits, abort=stop, progress=watch.step)
        watch.end()
        _say_trial(speaker, trial)
        _say_remarks(speaker, read)
        status = INTERRUPTED if trial.stopped else 0 if trial.complete and not trial.troubles else 1
    exit_with(status)


@app.command()
def tags(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="Some of its name, keyword or number.")],
    json: Json = False,
) -> None:
    """Find the tags that a rule can look at, by name, keyword or number. Exit status 1 when there is none."""
    found = 0
    with speaking(json=json) as speaker:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for head in ("Name", "Keyword", "Number"):
            table.add_column(head, no_wrap=True)
        wanted = [word.casefold() for word in " ".join(words).split()]
        for one in tag_choices():
            text = f"{one.title} {one.key} {one.number}".casefold()
            if all(word in text for word in wanted):
                found += 1
                speaker.data("tag", key=one.key, title=one.title, number=one.number)
                table.add_row(escape(one.title), one.key, one.number)
        if found:
            speaker.show(table)
        else:
            key = tag_key(words[0]) if len(words) == 1 and words[0].strip().startswith("(") else ""
            speaker.say(f"{key}: {title_of(key)}." if key else "No tag has all of these words in its name.")
    exit_with(0 if found else 1)


@contextmanager
def _pointing(speaker: Speaker, text: str) -> Iterator[None]:
    """Show where in the rule a mistake is, above the sentence that tells it."""
    try:
        yield
    except RuleError as error:
        shown = "".join(c if c.isprintable() else " " for c in text)
        start = max(0, error.at - _POINTER // 2)
        speaker.data("rule-error", at=error.at, length=error.length)
        if not speaker.json:
            speaker.remark(f"  {shown[start : start + _POINTER]}")
            speaker.remark(f"  {' ' * (error.at - start)}{'^' * min(error.length, _POINTER // 2)}", "red")
        raise


class _Watch:
    """A line that counts, where somebody watches."""

    def __init__(self, speaker: Speaker) -> None:
        self._speaker = speaker
        self._status = speaker.err.status("Looking…") if speaker.live else None
        if self._status is not None:
            self._status.start()

    def step(self, trial: Trial) -> None:
        if self._status is not None:
            self._status.update(f"{trial.matched:,} of {trial.studies:,} match so far…")

    def end(self) -> None:
        if self._status is not None:
            self._status.stop()


def _say_trial(speaker: Speaker, trial: Trial) -> None:
    if not speaker.json:
        for title, examples in (("Takes", trial.matching), ("Leaves out", trial.others)):
            if examples:
                speaker.say(f"{title}, for example:")
                speaker.show(_table(examples))
                speaker.say("")
    for one in (*trial.matching, *trial.others):
        s = one.study
        speaker.data(
            "study", study_uid=s.study_uid, patient_name=s.patient_name, patient_id=s.patient_id,
            study_date=s.study_date, description=s.description, modalities=list(s.modalities), verdict=one.verdict,
            images_taken=one.taken, images_looked_at=one.looked_at,
        )  # fmt: skip
    speaker.data(
        "finished", studies=trial.studies, matched=trial.matched, wholly=trial.wholly, partly=trial.partly,
        left_out=trial.left, undecided=trial.undecided, looked_into=trial.looked_into, by_images=trial.by_images,
        sampled=trial.sampled, bounded=trial.bounded, stopped=trial.stopped, complete=trial.complete,
        certain=trial.certain, reasons=list(trial.reasons), troubles=[t.sentence for t in trial.troubles],
    )  # fmt: skip
    speaker.say(headline(trial), "bold")
    for line in particulars(trial):
        speaker.say(line)
    for reason in trial.reasons:
        speaker.remark(f"This list may not be all: {reason}", "yellow")
    for trouble in trial.troubles:
        speaker.remark(f"{trouble.sentence} {trouble.next_step}".strip(), "yellow")


def headline(trial: Trial) -> str:
    """ "12 of 340 studies match"."""
    return f"{trial.matched:,} of {trial.studies:,} {'study matches' if trial.studies == 1 else 'studies match'}."


def particulars(trial: Trial) -> list[str]:
    """What has to be known of the figures."""
    found = []
    if trial.partly:
        found.append(f"{trial.partly:,} of them in part: some of their images are taken and some left out.")
    if trial.looked_into:
        of = "studies" if trial.looked_into > 1 else "study"
        how = "some images of each series" if trial.sampled else "the images"
        found.append(
            f"It is decided image by image: of {trial.looked_into:,} {of} {how} were looked at"
            + (" (--every-image looks at all)." if trial.sampled else ".")
        )
    if trial.undecided:
        more = "1 more is decided by its" if trial.undecided == 1 else f"{trial.undecided:,} more are decided by their"
        found.append(f"{more} images, and not looked into (--look-into).")
    if trial.bounded:
        found.append(f"Only the first {trial.studies:,} studies were looked at (--studies).")
    if trial.stopped:
        found.append("It was stopped; there may be more.")
    return found


def _table(examples: tuple[Example, ...]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in ("Date", "Patient", "ID", "Modality", "Description", ""):
        table.add_column(head, no_wrap=True)
    for one in examples:
        s = one.study
        cells = (s.study_date, s.patient_name, s.patient_id, "/".join(s.modalities), s.description, _remark(one))
        table.add_row(*(escape(cell) for cell in cells))
    return table


def _remark(example: Example) -> str:
    if example.verdict is Verdict.SOME:
        counted = f" ({example.taken:,} of {example.looked_at:,} looked at)" if example.looked_at else ""
        return f"in part{counted}"
    return "not looked into" if example.verdict is Verdict.UNDECIDED else ""


def _say_remarks(speaker: Speaker, rule: Rule) -> None:
    for remark in remarks(rule):
        speaker.say(remark, "dim")
