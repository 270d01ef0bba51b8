"""The support bundle: a ZIP that tells whoever helps how this installation is set up, without patient data."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from pydantic import JsonValue

from core.app import App
from core.home import make_private_file
from core.logs import without_credentials
from core.model.errors import FerryError, LocalError
from core.model.rules import parse_rule

_PACKAGES = (
    "dicom-ferry", "PySide6-Essentials", "SQLAlchemy", "alembic", "keyring", "pydantic", "pydicom", "pynetdicom",
    "pyorthanc", "typer", "rich", "filelock", "platformdirs", "openpyxl", "oauthlib",
)  # fmt: skip
_LEVEL = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR|CRITICAL) ")
_LOG_BYTES = 20 << 20


def write_support_bundle(app: App, path: Path) -> list[str]:
    """Write the bundle; the names of the files in it.

    Left out: secrets, everything about patients and studies, details of failures (which may quote a
    server), the values of filters, what is done by processing steps, and the lines of a detailed (debug) log.

    Raises
    ------
    LocalError
        The file can't be written.
    """
    try:
        make_private_file(path)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
            bundle.writestr("README.txt", _README)
            bundle.writestr("system.json", _json(_system(app)))
            bundle.writestr("nodes.json", _json(_nodes(app)))
            bundle.writestr("jobs.json", _json(_jobs(app)))
            for file in sorted(app.home.log_folder.glob("*.log*")):
                with bundle.open(f"logs/{file.name}", "w") as copy:
                    for line in _clean_lines(file):
                        copy.write(line.encode("utf-8", "replace"))
            return bundle.namelist()
    except OSError as error:
        raise LocalError(
            f"The support bundle can't be written to {path} ({error.strerror or error}).",
            "Choose another place with --output.",
            detail=repr(error),
            code="support-bundle",
        ) from error


_README = (
    "Support bundle of DICOM Ferry: versions, settings, nodes with their last test, jobs with their counts, and logs.\n"
    "It holds no passwords and no patient data: look through it before you pass it on.\n"
)


def _system(app: App) -> dict[str, object]:
    status = app.secrets.status()
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": sys.version,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "frozen": bool(getattr(sys, "frozen", False)),
        "packages": {name: _version(name) for name in _PACKAGES},
        "home_from_environment": "DICOM_FERRY_HOME" in os.environ,
        "keyring": {"available": status.available, "backend": status.backend, "sentence": status.sentence},
        "settings": app.settings.model_dump(mode="json"),
        "ledger_bytes": app.home.ledger_file.stat().st_size,
    }


def _nodes(app: App) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for record in app.nodes.all():
        profile = app.nodes.profile(record.name)
        steps = [
            {"name": s.name, "result": s.result.value, "finding": without_credentials(s.finding)}
            for s in (profile.steps if profile else ())
        ]
        found.append(
            {
                "name": record.name,
                "kind": record.kind,
                "fields": {k: _clean(v) for k, v in record.fields.items()},
                "tested": profile.at.isoformat() if profile else None,
                "facts": dict(profile.facts) if profile else {},
                "steps": steps,
            }
        )
    return found


def _jobs(app: App) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for job in app.jobs.all():
        counts = app.ledger.job_counts(job.id)
        found.append(
            {
                "job": job.id,
                "kind": job.kind,
                "state": job.state.value,
                "pass": job.pass_number,
                "follow": job.follow,
                "created": job.created.isoformat(),
                "fields": {k: _field(k, v) for k, v in job.fields.items()},
                "counts": {name: getattr(counts, name) for name in type(counts).__slots__},
                "studies": job.studies,
                "left_out": job.left_out,
                "failures": [
                    {"count": g.count, "node": g.node, "code": g.failure.code, "sentence": g.failure.sentence}
                    for g in app.ledger.failure_groups(job_id=job.id)
                ],
            }
        )
    return found


def _field(name: str, value: JsonValue) -> JsonValue:
    if name == "filter":
        return _filter_tags(value)
    if name == "step":  # what a step sets or looks for may be a patient's
        return [one.get("kind") for one in value if isinstance(one, dict)] if isinstance(value, list) else None
    return _clean(value)


def _filter_tags(value: JsonValue) -> str:
    """Which tags a filter looks at: its values may name a patient."""
    try:
        return ", ".join(sorted(parse_rule(str(value)).tags))
    except FerryError:
        return "(unreadable)"


def _clean(value: JsonValue) -> JsonValue:
    return without_credentials(value) if isinstance(value, str) else value


def _clean_lines(file: Path) -> Iterator[str]:
    """The end of a log without what was written at debug level, tracebacks of such lines included."""
    with file.open("rb") as raw:
        raw.seek(max(0, file.stat().st_size - _LOG_BYTES))
        keep = False
        for line in raw:
            text = line.decode("utf-8", "replace")
            match = _LEVEL.match(text)
            if match:
                keep = match[1] != "DEBUG"
            if keep:
                yield without_credentials(text)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
