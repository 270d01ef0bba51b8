"""This computer's receiver in a process of its own, which can be made to die at a chosen moment.

``python -m tests.faults.receiving PORT FOLDER [--die MOMENT NUMBER] [--no-watermark]`` prints "listening" and
receives until it is killed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core.nodes.base import OpenContext
from core.nodes.this_computer.association import AcceptedAssociation
from core.nodes.this_computer.fields import ThisComputerFields
from core.nodes.this_computer.node import ThisComputerNode
from core.spool import disk
from core.spool.incoming import IncomingFile
from core.spool.keeper import Keeper

#: Where the process can die, in the order in which one image meets them.
MOMENTS: dict[str, tuple[type | Any, str, bool]] = {
    "writing": (IncomingFile, "write", False),
    "named": (disk, "rename", True),
    "settled": (disk, "settle_as", True),
    "kept": (Keeper, "keep", True),
    "before 0000": (AcceptedAssociation, "send_encoded", False),
    "after 0000": (AcceptedAssociation, "send_encoded", True),
}


def die_at(moment: str, number: int) -> None:
    """Kill this process with SIGKILL when it comes to this moment for the `number`-th time."""
    place, name, afterwards = MOMENTS[moment]
    original: Callable[..., Any] = getattr(place, name)
    count = 0

    def reached(*args: Any, **named: Any) -> Any:
        nonlocal count
        result = original(*args, **named) if afterwards else None
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result if afterwards else original(*args, **named)

    setattr(place, name, reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--die", nargs=2, metavar=("MOMENT", "NUMBER"))
    parser.add_argument("--no-watermark", action="store_true")
    options = parser.parse_args()
    if options.no_watermark:  # the disk is to be really full
        ThisComputerFields.watermark = property(lambda _self: 0)  # type: ignore[assignment]
    fields = ThisComputerFields(aet="FERRY", port=options.port, bind="127.0.0.1", reserve=0.1, callers=("*@127.0.0.1",))
    node = ThisComputerNode(fields, OpenContext("here", lambda _field: None, folder=options.folder))
    node.listen()
    if options.die:
        die_at(options.die[0], int(options.die[1]))
    print("listening", flush=True)
    sys.stdin.read()
    signal.pause()


if __name__ == "__main__":
    main()
