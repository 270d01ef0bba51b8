"""A receiver of `dimse_receive`, in a process of its own: ours, or a bare one of pynetdicom's.

``python -m tests.bench.receiver {ferry,bare} PORT FOLDER`` prints "ready", receives until its input ends, and prints
one JSON object: images, CPU seconds, and the largest resident size in MB.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
from pathlib import Path
from typing import Any

from tests.bench.contender import peak_memory


def ferry(port: int, folder: Path) -> int:
    """This computer's own store: each file synced and recorded before its 0000."""
    from core.nodes.base import OpenContext
    from core.nodes.registry import node_kinds
    from core.nodes.this_computer.node import ThisComputerNode

    kind = node_kinds.get("this-computer")
    fields = type(kind).Fields.model_validate(
        {"port": port, "bind": "127.0.0.1", "callers": ["*@127.0.0.1"], "reserve": 0.1}
    )
    node = kind.open(fields, OpenContext("bench", lambda _field: None, folder=folder))
    assert isinstance(node, ThisComputerNode)
    node.listen()
    _until_told()
    count = node.spool.catalogue.totals()[1]
    node.close()
    return count


def bare(port: int, _folder: Path) -> int:
    """Nothing is decoded, written or remembered."""
    from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, _config, evt

    _config.LOG_HANDLER_LEVEL = "none"
    received = 0

    def store(_event: Any) -> int:
        nonlocal received
        received += 1
        return 0x0000

    ae = AE(ae_title="DICOMFERRY")
    ae.maximum_pdu_size = 131072
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    _until_told()
    if server is not None:
        server.shutdown()
    return received


def _until_told() -> None:
    print("ready", flush=True)
    sys.stdin.read()


def main() -> None:
    logging.disable(logging.WARNING)
    name, port, folder = sys.argv[1:]
    count = {"ferry": ferry, "bare": bare}[name](int(port), Path(folder))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"images": count, "cpu": used.ru_utime + used.ru_stime, "peak_mb": peak_memory()}))


if __name__ == "__main__":
    main()
