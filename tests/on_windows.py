"""What of the tests runs on Windows Python (`make windows`): all but what stands here, each with its reason."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.servers import ServerMissingError

#: Fixtures that start what Windows Python under Wine has not beside it.
_SERVERS = {
    "_orthanc_pool", "start_orthanc", "fault_proxy", "xvfb", "xvfb_with_tray", "secret_service", "ferry",
}  # fmt: skip

#: What only computes gives the same on every system.
_COMPUTES = (
    "accepted", "azure_fields", "cli_fields", "deidentify_pseudonyms", "deidentify_table", "dicom_fields",
    "dicomweb_uid_lists", "dimse_identifier", "dimse_status", "explicit_stream", "fields", "multipart",
    "orthanc_fields", "orthanc_remote_entries", "outcome", "pace", "refusals", "retry_after", "rule_trial", "rules",
    "status_policy", "steps", "study_search", "transfer_digests", "whole_pushes",
)  # fmt: skip
#: Pages that Qt draws and moves as everywhere; others of the same parts run.
_PAGES = (
    "deidentify", "gateway", "migrate_wizard", "nodes_azure", "nodes_dicomweb", "remotes", "rules", "steps", "words",
)  # fmt: skip

#: Folders and files that are not even imported there.
LEFT_OUT = {
    "bench": "measures, on Linux",
    "real": "needs real servers, which run on Linux",
    "faults": "what peers do wrong, row by row; sockets of Windows are tried by unit/test_wire_* and unit/test_dimse_*",
    "unit/test_architecture.py": "reads the sources, which are the same everywhere",
    "unit/test_engine_review.py": "counts and times what the engine asks of the ledger",
    "unit/test_installer.py": "looks at what builds the installers, which is Linux",
    "unit/test_ledger_totals.py": "counts what SQL adds up",
    **{f"unit/test_{name}.py": "computes" for name in _COMPUTES},
    **{f"gui/test_{name}.py": "a page of the window, drawn by Qt" for name in _PAGES},
}


def left_out() -> list[str]:
    """What `collect_ignore` takes."""
    return list(LEFT_OUT) if sys.platform == "win32" else []


def leave_to_linux(items: list[pytest.Item]) -> None:
    """Skip tests of what is Linux's, and tests that need servers which run there, with the reason."""
    for item in items:
        needs = _SERVERS & set(getattr(item, "fixturenames", ()))
        if item.get_closest_marker("posix"):
            item.add_marker(pytest.mark.skip(reason="Windows has nothing of the kind"))
        elif needs:
            item.add_marker(pytest.mark.skip(reason=f"{', '.join(sorted(needs))}: on Linux only"))


def excuse(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> None:
    """A test that has found a server or a program of Linux missing is skipped, too."""
    if sys.platform == "win32" and call.excinfo is not None and isinstance(call.excinfo.value, ServerMissingError):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {call.excinfo.value}")


def note(item: pytest.Item) -> None:
    """Write down what runs now, so that whoever ends a run that hangs can name it."""
    folder = os.environ.get("DICOM_FERRY_TESTS_NOW")
    if folder:
        worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
        (Path(folder) / f"{worker}.txt").write_text(item.nodeid + "\n", encoding="utf-8")
