"""One contender of the DICOMweb part of `make bench`, in a process of its own.

``python -m tests.bench.dicomweb_contender {bare,together,series,ferry} {to,from} SOURCE DESTINATION CONNECTIONS``, with
the addresses of two Orthancs, prints one JSON object: seconds, CPU seconds and peak memory of carrying everything from
one to the other. Finding out what there is counts for all; ``loop`` are the seconds of a loop that knows it already.
"""

from __future__ import annotations

import http.client
import json
import logging
import queue
import resource
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from tests.bench.contender import peak_memory, run_to_end

TOGETHER = 10
_TYPE = 'multipart/related; type="application/dicom"; boundary=bb'
_HEAD = b"--bb\r\nContent-Type: application/dicom\r\n\r\n"
_JSON = {"Accept": "application/dicom+json"}
Carry = Callable[[http.client.HTTPConnection, http.client.HTTPConnection, list[str]], None]


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)


def _json(url: str, path: str) -> list[dict[str, dict[str, list[str]]]]:
    connection = _connection(url)
    connection.request("GET", path, headers=_JSON)
    found: list[dict[str, dict[str, list[str]]]] = json.loads(connection.getresponse().read())
    return found


def _answer(connection: http.client.HTTPConnection) -> bytes:
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise SystemExit(f"{response.status}: {body[:300]!r}")
    return body


def _to(get: http.client.HTTPConnection, post: http.client.HTTPConnection, images: list[str]) -> None:
    parts = []
    for image in images:
        get.request("GET", f"/instances/{image}/file", headers={"Accept-Encoding": "identity"})
        parts += [_HEAD, _answer(get), b"\r\n"]
    post.request("POST", "/dicom-web/studies", b"".join([*parts, b"--bb--"]), {"Content-Type": _TYPE, **_JSON})
    _answer(post)


def _from(get: http.client.HTTPConnection, post: http.client.HTTPConnection, images: list[str]) -> None:
    for image in images:
        get.request("GET", image, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
        body = _answer(get)
        start = body.index(b"\r\n\r\n") + 4
        end = body.rindex(b"\r\n--", start, len(body) - 4)
        post.request("POST", "/instances", body[start:end], {"Content-Type": "application/dicom"})
        _answer(post)


def _images(way: str, source: str) -> list[list[str]]:
    """What is to be carried, study by study: identifiers of Orthanc, or paths of WADO-RS."""
    if way == "to":
        connection = _connection(source)
        connection.request("GET", "/studies?expand")
        studies = json.loads(_answer(connection))
        found = []
        for study in studies:
            connection.request("GET", f"/studies/{study['ID']}/instances")
            found.append([one["ID"] for one in json.loads(_answer(connection))])
        return found
    uids = [study["0020000D"]["Value"][0] for study in _json(source, "/dicom-web/studies")]
    return [
        [
            f"/dicom-web/studies/{uid}/series/{one['0020000E']['Value'][0]}/instances/{one['00080018']['Value'][0]}"
            for one in _json(source, f"/dicom-web/studies/{uid}/instances")
        ]
        for uid in uids
    ]


def _from_series(get: http.client.HTTPConnection, post: http.client.HTTPConnection, paths: list[str]) -> None:
    for path in paths:
        get.request("GET", path, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'})
        answer = get.getresponse()
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {answer.read()[:300]!r}")
        while not answer.readline().endswith(b"--\r\n"):
            length = 0
            while (line := answer.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line[15:])
            post.request("POST", "/instances", answer.read(length), {"Content-Type": "application/dicom"})
            _answer(post)
            answer.readline()  # the line end before the boundary
        answer.close()
        get.close()


def bare(
    way: str, source: str, destination: str, connections: int, *, together: int = 1, series: bool = False
) -> dict[str, float]:
    """A multipart loop with nothing but `http.client`: no ledger, no evidence, no retries."""
    work: queue.SimpleQueue[list[str] | None] = queue.SimpleQueue()
    used = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    for study in _images(way, source):
        wanted = list(dict.fromkeys(path.partition("/instances/")[0] for path in study)) if series else study
        for at in range(0, len(wanted), together):
            work.put(wanted[at : at + together])
    carry: Carry = _from_series if series else _to if way == "to" else _from

    def run() -> None:
        get, post = _connection(source), _connection(destination)
        while (images := work.get()) is not None:
            carry(get, post, images)

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for _ in threads:
        work.put(None)
    known = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ended = time.perf_counter()
    return {"seconds": ended - began, "loop": ended - known, "cpu": _cpu_since(used)}


def together(way: str, source: str, destination: str, connections: int) -> dict[str, float]:
    """As `bare`, with some images in a request."""
    return bare(way, source, destination, connections, together=TOGETHER)


def series(way: str, source: str, destination: str, connections: int) -> dict[str, float]:
    """As `bare`, with the images of a series in one answer."""
    return bare(way, source, destination, connections, series=True)


def ferry(way: str, source: str, destination: str, connections: int) -> dict[str, float]:
    """This program's forward: ledger, look at what is there, and verification included."""
    from core.app import App
    from core.jobs.registry import job_kinds
    from core.nodes.registry import node_kinds

    kinds = ("orthanc", "dicomweb") if way == "to" else ("dicomweb", "orthanc")
    with tempfile.TemporaryDirectory() as folder:
        app = App.open(Path(folder))
        for name, kind, url in zip(("source", "destination"), kinds, (source, destination), strict=True):
            address = f"{url}/dicom-web" if kind == "dicomweb" else url
            app.nodes.add(kind, name, {"url": address, "connections": connections}, {})
        node_kinds.all()  # not the start-up is measured
        job_kinds.all()
        used = resource.getrusage(resource.RUSAGE_SELF)
        fields = {"source": ["source"], "destination": ["destination"], "workers": connections, "path": "relay"}
        job = app.jobs.create("forward", fields)  # type: ignore[arg-type]
        record = run_to_end(app, job.id)
        assert record.started is not None
        assert record.finished is not None, record
        counts = app.ledger.job_counts(job.id)
        if record.problem or counts.verified != counts.total:
            raise SystemExit(f"{record.problem} {counts}")
        cpu = _cpu_since(used)
        app.close()
    return {"seconds": (record.finished - record.started).total_seconds(), "cpu": cpu}


def _cpu_since(used: resource.struct_rusage) -> float:
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime


CONTENDERS = {"bare": bare, "together": together, "series": series, "ferry": ferry}


def main() -> None:
    logging.disable(logging.WARNING)
    name, way, source, destination, connections = sys.argv[1:]
    if name == "ferry":
        import core.app  # noqa: F401 - not the start-up is measured
    found = CONTENDERS[name](way, source, destination, int(connections))
    print(json.dumps({"peak_mb": peak_memory(), **found}))


if __name__ == "__main__":
    main()
