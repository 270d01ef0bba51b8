"""An Orthanc with the transfers accelerator, as far as one that sends is seen by its REST API.

The plugin has no package, so this stands before a real Orthanc: it answers ``/transfers/…`` as the plugin does
(https://orthanc.uclouvain.be/book/plugins/transfers.html; compared with version 1.2 of it), lets the real server
send the images as to a peer, and tells of that job as of one of type ``PushTransfer``.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.orthanc import OrthancServer

_PLUGIN_ERROR = {"ErrorCode": 1, "ErrorDescription": "Error encountered within the plugin engine", "ErrorDetails": ""}


class AcceleratedOrthanc:
    """The address of a real server by which it has the plugin.

    Parameters
    ----------
    server : OrthancServer
        It knows the peers.
    peers : dict[str, str]
        State of each peer: "installed", "disabled" or "bidirectional".

    Attributes
    ----------
    orders : list[dict]
        What ``/transfers/send`` was asked for.
    tells_resources : bool
        A job that waits for its turn tells nothing of what it is to send.
    """

    def __init__(self, server: OrthancServer, peers: dict[str, str]) -> None:
        self.server = server
        self.peers = peers
        self.orders: list[dict[str, Any]] = []
        self.tells_resources = True
        self._jobs: dict[str, dict[str, Any]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(10)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str]:
        if path == "/transfers/peers":
            return _json(200, self.peers)
        if path == "/transfers/send":
            return self._send(json.loads(body))
        status, answer, kind = self._real(method, path, body)
        if status == 200 and path == "/plugins":
            return _json(200, [*json.loads(answer), "transfers"])
        if status == 200 and path == "/jobs?expand":
            return _json(200, [self._told(job) for job in json.loads(answer)])
        if status == 200 and method == "GET" and path.startswith("/jobs/"):
            return _json(200, self._told(json.loads(answer)))
        return status, answer, kind

    def _send(self, order: dict[str, Any]) -> tuple[int, bytes, str]:
        self.orders.append(order)
        right = isinstance(order.get("Compression"), str) and all(
            one["Level"] in ("Patient", "Study", "Series", "Instance") for one in order["Resources"]
        )
        if not right:
            return _json(400, {"HttpStatus": 400, "OrthancStatus": 15, "Message": "Bad file format"})
        if order["Peer"] not in self.peers:
            return _json(404, {"HttpStatus": 404, "OrthancStatus": 17, "Uri": "/transfers/send"})
        resources = [one["ID"] for one in order["Resources"]]
        payload = json.dumps({"Resources": resources, "Synchronous": False}).encode()
        _, answer, _ = self._real("POST", f"/peers/{order['Peer']}/store", payload)
        job = json.loads(answer)["ID"]
        self._jobs[job] = order
        return _json(200, {"ID": job, "Path": f"/jobs/{job}"})

    def _told(self, job: dict[str, Any]) -> dict[str, Any]:
        order = self._jobs.get(job["ID"])
        if order is None:
            return job
        named = {name: order[name] for name in ("Peer", "Resources", "Compression")}
        told = job | {"Type": "PushTransfer", "Content": named if self.tells_resources else {}}
        return told | _PLUGIN_ERROR if job["State"] == "Failure" else told

    def _real(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=30)
        try:
            connection.request(method, path, body or None)
            response = connection.getresponse()
            return response.status, response.read(), response.headers.get("Content-Type", "")
        finally:
            connection.close()


def _json(status: int, found: object) -> tuple[int, bytes, str]:
    return status, json.dumps(found).encode(), "application/json"


def _handler(front: AcceleratedOrthanc) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer, kind = front.answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = do_DELETE = _any  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None: ...

    return Handler
