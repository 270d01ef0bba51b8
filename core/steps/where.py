"""Steps that work on some instances only: those that a rule takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import field_validator

from core.model.errors import ConfigurationError
from core.model.fields import FieldType, declared
from core.model.rules import Rule, parse_rule
from core.model.rules.tags import tag_path
from core.steps.base import LargeValue, StepFields

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


class WhereFields(StepFields):
    """Mixin: a rule that says for which images a step is."""

    where: str = declared(
        "",
        title="Only where",
        help="A rule such as: Modality = CT and StudyDate >= 20200101. Other images pass unchanged by this step.",
        placeholder="All images",
        type=FieldType.RULE,
        advanced=True,
    )

    @field_validator("where")
    @classmethod
    def _where_parses(cls, value: str) -> str:
        try:
            parse_rule(value)
        except ConfigurationError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def rule(self) -> Rule:
        return parse_rule(self.where)


def takes(rule: Rule, dataset: Dataset) -> bool:
    """Whether a rule takes an instance."""
    return not rule.parts or rule.matches({key: _value(key, dataset) for key in rule.tags})


def _value(key: str, dataset: Dataset) -> str:
    if key == "TransferSyntaxUID":
        return str(dataset.file_meta.get("TransferSyntaxUID", ""))
    path = tag_path("Modality" if key == "ModalitiesInStudy" else key)
    return "\\".join(_values(path, dataset)) if path else ""


def _values(path: tuple[int, ...], dataset: Dataset) -> Iterator[str]:
    if path[0] not in dataset:
        return
    element = dataset[path[0]]
    if len(path) > 1:
        for item in element.value if element.VR == "SQ" else ():
            yield from _values(path[1:], item)
        return
    if element.VR == "SQ" or isinstance(element.value, bytes | LargeValue) or element.value is None:
        return
    several = element.value if element.VM > 1 else [element.value]
    yield from (str(v) for v in several)
