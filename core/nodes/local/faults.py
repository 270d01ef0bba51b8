"""What the operating system's errors mean: sentences for a person, and what a delivery does next."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from core.model.errors import FerryError, LocalError
from core.model.outcome import Failure, FailureClass

# code → what it means for a delivery, the sentence (about "the folder" of a node) and the next step
_MEANING: dict[str, tuple[FailureClass, str, str]] = {
    "disk-full": (
        FailureClass.BUSY,
        "The disk or share of “{node}” is full.",
        "Free some space there; what is missing is tried again.",
    ),
    "read-only": (
        FailureClass.PERSON,
        "“{node}” can only be read.",
        "Choose another folder, or have the write protection taken off.",
    ),
    "no-permission": (
        FailureClass.PERSON,
        "This computer's user may not do that in “{node}”.",
        "Ask for the right to read, write and delete in this folder.",
    ),
    "file-refused": (
        FailureClass.PERMANENT,
        "This computer's user may not read a file in “{node}”.",
        "Ask for the right to read this folder and everything in it, then retry.",
    ),
    "path-too-long": (
        FailureClass.PERMANENT,
        "A path below “{node}” is too long for the system.",
        "Choose a folder with a shorter path.",
    ),
    "bad-name": (
        FailureClass.PERMANENT,
        "The system does not take the name of a file below “{node}”.",
        "Choose the layout by UID, or another file system.",
    ),
    "share-lost": (
        FailureClass.DOWN,
        "The share or disk of “{node}” does not answer.",
        "Check the network and that the share is connected; it goes on by itself when it is back.",
    ),
    "folder-missing": (
        FailureClass.DOWN,
        "The folder of “{node}” is not there.",
        "Connect the disk or share, or correct the path; it goes on by itself when it is back.",
    ),
    "locked": (
        FailureClass.RETRY,
        "A file of “{node}” is being used by another program.",
        "It is tried again; exclude the folder from the virus scanner when this goes on.",
    ),
    "too-many-files": (
        FailureClass.BUSY,
        "This computer has too many files open.",
        "It is tried again; lower the number of images at once.",
    ),
    "gone": (
        FailureClass.GONE,
        "The file is no longer in “{node}”.",
        "Take inventory again if it was moved.",
    ),
    "in-the-way": (
        FailureClass.PERSON,
        "Something else lies in “{node}” where the image belongs.",
        "Look into the folder, or choose an empty one.",
    ),
    "disk-fault": (
        FailureClass.RETRY,
        "The disk or share of “{node}” reports an error.",
        "It is tried again; have the disk checked when this goes on.",
    ),
}

# Raised by the node itself, with their own sentences.
_OWN: dict[str, FailureClass] = {
    "changed": FailureClass.GONE,
    "not-dicom": FailureClass.PERMANENT,
    "broken-dicom": FailureClass.PERMANENT,
    "other-instance": FailureClass.PERMANENT,
    "too-large": FailureClass.PERMANENT,
    "zip-damaged": FailureClass.PERSON,
    "zip-encrypted": FailureClass.PERMANENT,
    "outside": FailureClass.PERMANENT,
    "cut": FailureClass.RETRY,
}

_BY_ERRNO = {
    errno.ENOSPC: "disk-full",
    errno.EFBIG: "disk-full",
    errno.EROFS: "read-only",
    errno.EACCES: "no-permission",
    errno.EPERM: "no-permission",
    errno.ENAMETOOLONG: "path-too-long",
    errno.EILSEQ: "bad-name",
    errno.EINVAL: "bad-name",
    errno.ENOENT: "gone",
    errno.ENOTDIR: "in-the-way",
    errno.EISDIR: "in-the-way",
    errno.ENOTEMPTY: "in-the-way",
    errno.EBUSY: "locked",
    errno.ETXTBSY: "locked",
    errno.EAGAIN: "locked",
    errno.EMFILE: "too-many-files",
    errno.ENFILE: "too-many-files",
    errno.EIO: "disk-fault",
    errno.ENODEV: "share-lost",
    errno.ENXIO: "share-lost",
    errno.ENETDOWN: "share-lost",
    errno.ENETUNREACH: "share-lost",
    errno.ENETRESET: "share-lost",
    errno.EHOSTDOWN: "share-lost",
    errno.EHOSTUNREACH: "share-lost",
    errno.ECONNABORTED: "share-lost",
    errno.ECONNRESET: "share-lost",
    errno.ECONNREFUSED: "share-lost",
    errno.ENOTCONN: "share-lost",
    errno.ETIMEDOUT: "share-lost",
    errno.ESTALE: "share-lost",
    # Quotas and the transport of network file systems; not every system has these.
    getattr(errno, "EDQUOT", -1): "disk-full",
    getattr(errno, "ESHUTDOWN", -2): "share-lost",
    getattr(errno, "ENOTBLK", -3): "in-the-way",
    getattr(errno, "EREMOTEIO", -4): "share-lost",
    getattr(errno, "ENOMEDIUM", -5): "share-lost",
}

# Windows system error codes (winerror.h), which say more than the errno that Python makes of them.
_BY_WINERROR = {
    2: "gone",  # ERROR_FILE_NOT_FOUND
    3: "gone",  # ERROR_PATH_NOT_FOUND
    5: "no-permission",  # ERROR_ACCESS_DENIED
    15: "share-lost",  # ERROR_INVALID_DRIVE
    19: "read-only",  # ERROR_WRITE_PROTECT
    21: "share-lost",  # ERROR_NOT_READY
    23: "disk-fault",  # ERROR_CRC
    31: "disk-fault",  # ERROR_GEN_FAILURE
    32: "locked",  # ERROR_SHARING_VIOLATION
    33: "locked",  # ERROR_LOCK_VIOLATION
    39: "disk-full",  # ERROR_HANDLE_DISK_FULL
    51: "share-lost",  # ERROR_REM_NOT_LIST
    53: "share-lost",  # ERROR_BAD_NETPATH
    54: "share-lost",  # ERROR_NETWORK_BUSY
    55: "share-lost",  # ERROR_DEV_NOT_EXIST
    58: "share-lost",  # ERROR_BAD_NET_RESP
    59: "share-lost",  # ERROR_UNEXP_NET_ERR
    64: "share-lost",  # ERROR_NETNAME_DELETED
    65: "no-permission",  # ERROR_NETWORK_ACCESS_DENIED
    67: "share-lost",  # ERROR_BAD_NET_NAME
    86: "no-permission",  # ERROR_INVALID_PASSWORD
    112: "disk-full",  # ERROR_DISK_FULL
    121: "share-lost",  # ERROR_SEM_TIMEOUT
    123: "bad-name",  # ERROR_INVALID_NAME
    170: "locked",  # ERROR_BUSY
    206: "path-too-long",  # ERROR_FILENAME_EXCED_RANGE
    225: "locked",  # ERROR_VIRUS_INFECTED: the scanner holds it back
    303: "locked",  # ERROR_DELETE_PENDING
    1117: "disk-fault",  # ERROR_IO_DEVICE
    1167: "share-lost",  # ERROR_DEVICE_NOT_CONNECTED
    1222: "share-lost",  # ERROR_NO_NETWORK
    1224: "locked",  # ERROR_USER_MAPPED_FILE
    1225: "share-lost",  # ERROR_CONNECTION_REFUSED
    1231: "share-lost",  # ERROR_NETWORK_UNREACHABLE
    1232: "share-lost",  # ERROR_HOST_UNREACHABLE
    1236: "share-lost",  # ERROR_CONNECTION_ABORTED
    1295: "disk-full",  # ERROR_DISK_QUOTA_EXCEEDED
    1326: "no-permission",  # ERROR_LOGON_FAILURE
    2250: "share-lost",  # ERROR_NOT_CONNECTED: a mapped drive without its share
    1450: "too-many-files",  # ERROR_NO_SYSTEM_RESOURCES
}


def local_error(error: OSError, node: str, *, of_file: bool = False) -> LocalError:
    """The system's error as one that a person can read; `code` says which it is.

    `of_file` is True where one file was read: a refusal concerns that file, not the whole node.
    """
    code = _BY_WINERROR.get(getattr(error, "winerror", None) or -1) or _BY_ERRNO.get(error.errno or -1, "disk-fault")
    if of_file and code == "no-permission":
        code = "file-refused"
    return told(code, node, detail=_raw(error))


def told(code: str, node: str, *, detail: str = "") -> LocalError:
    """The error of this code, in words."""
    _, sentence, next_step = _MEANING[code]
    return LocalError(sentence.format(node=node), next_step, detail=detail, code=code)


@contextmanager
def speaking(node: str) -> Iterator[None]:
    """Turn every `OSError` in the block into a `LocalError`."""
    try:
        yield
    except OSError as error:
        raise local_error(error, node) from error


def folder_failure(error: FerryError, side: str) -> Failure | None:
    """What an error of this node means for a delivery; None for errors that came from elsewhere."""
    cls = _MEANING[error.code][0] if error.code in _MEANING else _OWN.get(error.code)
    if cls is None:
        return None
    return Failure(error.code, cls, error.sentence, error.next_step, error.detail, side)


def _raw(error: OSError) -> str:
    # The file's name may hold a patient's name, so the detail goes without it.
    number = getattr(error, "winerror", None)
    where = f"WinError {number}" if number else errno.errorcode.get(error.errno or -1, str(error.errno))
    return f"{type(error).__name__}: {error.strerror or 'no text'} ({where})"
