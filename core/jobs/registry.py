"""Where job kinds register themselves."""

from __future__ import annotations

from core.jobs.base import JobKind
from core.model.registry import Registry

job_kinds: Registry[JobKind] = Registry("core.jobs", "job kind")


def register(kind: JobKind) -> JobKind:
    return job_kinds.register(kind.name, kind)
