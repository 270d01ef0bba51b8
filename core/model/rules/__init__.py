"""Rules over tags: "Modality = CT and StudyDate >= 20200101", as text, as data and in words."""

from core.model.rules.rule import Condition, Operator, Rule
from core.model.rules.text import RuleError, parse_rule

__all__ = ["Condition", "Operator", "Rule", "RuleError", "parse_rule"]
