"""Tags: set, replace, lengthen, empty, remove or keep tags of each image."""

from __future__ import annotations

from pydantic import field_validator

from core.model.fields import FieldType, declared
from core.steps.base import Step, StepFields, StepKind, StepSurroundings
from core.steps.registry import register
from core.steps.tag_actions import parse_actions
from core.steps.tag_work import Tags
from core.steps.where import WhereFields


class TagsFields(WhereFields):
    """Fields of the step."""

    actions: str = declared(
        title="What to do",
        help="One a line, or parted by semicolons: set TAG=VALUE · replace TAG=VALUE (where it is there) · prefix "
        "TAG=TEXT · suffix TAG=TEXT · empty TAG · remove TAG · keep TAG, TAG (and remove all others but identifiers "
        "and pixels). Tags by keyword or number, x for any digit, dots lead into sequences.",
        placeholder="set InstitutionName=Radiology\nremove (0019,xx10)",
        type=FieldType.LINES,
        columns=(
            ("set=", "Set"),
            ("replace=", "Replace where it is there"),
            ("prefix=", "Put in front"),
            ("suffix=", "Put behind"),
            ("empty", "Empty"),
            ("remove", "Remove"),
            ("keep", "Keep, remove all others"),
        ),
        min_length=1,
    )
    note_former: bool = declared(
        True,
        title="Note former values in the image",
        help="What was set, replaced or lengthened is kept in the Original Attributes Sequence (0400,0561), with time "
        "and program. Switch it off where the receiver must not learn the former values; what is removed or emptied "
        "is never noted.",
        advanced=True,
    )

    @field_validator("actions")
    @classmethod
    def _actions_parse(cls, value: str) -> str:
        parse_actions(value)
        return value


class TagsKind(StepKind):
    """Corrects and strips tags."""

    name = "tags"
    title = "Change tags"
    summary = "Set, replace, prefix, empty, remove or keep tags, for all images or those that a rule takes."
    icon = "edit"
    Fields = TagsFields

    def open(self, fields: StepFields, surroundings: StepSurroundings) -> Step:
        assert isinstance(fields, TagsFields)
        return Tags(parse_actions(fields.actions), fields.rule, notes=fields.note_former)

    def describe(self, fields: StepFields) -> str:
        assert isinstance(fields, TagsFields)
        actions = parse_actions(fields.actions)
        words = [f"{a.verb} {a.name}" for a in actions[:3]]
        more = f" and {len(actions) - 3} more" if len(actions) > 3 else ""
        where = f", where {fields.where}" if fields.where else ""
        return f"{', '.join(words)[:1].upper()}{', '.join(words)[1:]}{more}{where}"


register(TagsKind())
