"""De-identification after PS3.15 Annex E: the basic profile, its options, and pseudonyms that stay the same."""

from core.steps.deidentify.kind import DeidentifyKind
from core.steps.registry import register

register(DeidentifyKind())
