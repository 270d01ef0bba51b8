"""Errors of the operating system, of POSIX and Windows, as sentences and as what a delivery does next."""

from __future__ import annotations

import errno
import sys
from pathlib import Path

import pytest

from core.model.errors import ConfigurationError, LocalError
from core.model.outcome import FailureClass
from core.nodes.base import OpenContext
from core.nodes.folder import disk
from core.nodes.folder.fields import FolderFields, Layout
from core.nodes.folder.kind import FolderKind
from core.nodes.local.faults import _BY_ERRNO, _BY_WINERROR, _MEANING, folder_failure, local_error


def windows_error(number: int) -> OSError:
    error = OSError(errno.EINVAL, "something Windows says")
    error.winerror = number
    return error


@pytest.mark.parametrize(
    ("error", "code", "cls"),
    [
        (OSError(errno.ENOSPC, ""), "disk-full", FailureClass.BUSY),
        (OSError(errno.EROFS, ""), "read-only", FailureClass.PERSON),
        (PermissionError(errno.EACCES, ""), "no-permission", FailureClass.PERSON),
        (OSError(errno.ENAMETOOLONG, ""), "path-too-long", FailureClass.PERMANENT),
        (OSError(errno.ESTALE, ""), "share-lost", FailureClass.DOWN),
        (OSError(errno.EIO, ""), "disk-fault", FailureClass.RETRY),
        (FileNotFoundError(errno.ENOENT, ""), "gone", FailureClass.GONE),
        (windows_error(112), "disk-full", FailureClass.BUSY),
        (windows_error(32), "locked", FailureClass.RETRY),
        (windows_error(53), "share-lost", FailureClass.DOWN),
        (windows_error(64), "share-lost", FailureClass.DOWN),
        (windows_error(206), "path-too-long", FailureClass.PERMANENT),
        (OSError("without a number"), "disk-fault", FailureClass.RETRY),
    ],
)
def test_what_an_error_means(error, code, cls):
    told = local_error(error, "export")
    assert told.code == code
    failure = folder_failure(told, "destination")
    assert failure is not None
    assert failure.cls is cls
    assert failure.side == "destination"
    assert failure.sentence.endswith(".")
    assert failure.next_step.endswith(".")


def test_the_name_of_a_file_is_never_part_of_what_is_told():
    error = PermissionError(errno.EACCES, "Permission denied", "/data/DOE^JANE/1.dcm")
    told = local_error(error, "export")
    assert "DOE" not in str(told) + told.detail


def test_every_code_has_a_meaning():
    assert set(_BY_ERRNO.values()) | set(_BY_WINERROR.values()) <= set(_MEANING)


def test_errors_from_elsewhere_are_left_to_others():
    assert folder_failure(LocalError("x", code="something-else"), "source") is None


@pytest.mark.parametrize(
    ("path", "given"),
    [
        ("C:\\export\\2024", "\\\\?\\C:\\export\\2024"),
        ("\\\\server\\share\\x", "\\\\?\\UNC\\server\\share\\x"),
        ("\\\\?\\C:\\x", "\\\\?\\C:\\x"),
    ],
)
def test_long_paths_on_windows(monkeypatch, path, given):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(disk.os.path, "abspath", lambda p: p)
    assert disk.extended(path) == given


EXPORT = str(Path("/data/export").absolute())  # on Windows with a drive


def test_fields_take_paths_of_both_worlds():
    assert FolderFields(path="\\\\server\\exchange").path == "\\\\server\\exchange"
    assert FolderFields(path="D:\\Export").path == "D:\\Export"
    assert FolderFields(path=EXPORT).path == EXPORT
    assert FolderFields(path="relative").path.endswith("relative")
    assert FolderFields(path="~/x").path != "~/x"
    assert FolderFields(path="/data/A.ZIP").is_zip
    for path in ("", "  ", "a\x00b", "a\nb"):
        with pytest.raises(ValueError):
            FolderFields(path=path)


def test_the_kind_says_where_and_warns():
    kind = FolderKind()
    assert kind.address(FolderFields(path=EXPORT)) == EXPORT
    assert len(kind.address(FolderFields(path="/data/" + "x" * 300))) == 60
    assert kind.warnings(FolderFields(path="/data/export"), has_secret=False) == []
    assert len(kind.warnings(FolderFields(path="/data/x.zip", layout=Layout.DICOMDIR), has_secret=False)) == 2
    node = kind.open(FolderFields(path="/nowhere/at/all"), OpenContext("n", lambda _: None))
    with pytest.raises(LocalError):
        node.probe()
    node.close()
    assert not isinstance(LocalError("x"), ConfigurationError)


@pytest.mark.posix  # links need a right on Windows
def test_a_place_that_the_file_system_cannot_tell_is_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images", target_is_directory=True)

    def refuse(path: str, **_more: object) -> str:
        raise OSError(errno.EINVAL, "More data available")

    monkeypatch.setattr(disk.os.path, "realpath", refuse)
    assert disk.real(tmp_path / "images") == disk.extended(tmp_path / "images")
    with pytest.raises(OSError, match="More data"):
        disk.real(tmp_path / "link")
