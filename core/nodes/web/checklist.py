"""The steps that begin the diagnosis of every node reached by HTTP, and how steps follow each other."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from core.model.diagnosis import DiagnosisStep, StepResult
from core.model.errors import FerryError
from core.wire.dial import dial

NAME_FOUND = "Name found"
PORT_ANSWERS = "Port answers"

Step = tuple[str, Callable[[], DiagnosisStep]]
"""A step's name, and what tries it; a `FerryError` that it raises is its failure."""


def walked(steps: Sequence[Step], *, harmless: Collection[str] = ()) -> Iterator[DiagnosisStep]:
    """Each step as it ends; what follows a failure is skipped, unless the failed step is one of `harmless`."""
    failed = ""
    for name, test in steps:
        if failed:
            yield DiagnosisStep(name, StepResult.SKIPPED, f"not tried, because “{failed}” failed")
            continue
        try:
            step = test()
        except FerryError as error:
            step = failed_step(name, error)
        if step.result is StepResult.FAILED and name not in harmless:
            failed = name
        yield step


def failed_step(name: str, error: FerryError) -> DiagnosisStep:
    return DiagnosisStep(name, StepResult.FAILED, error.sentence, error.next_step, error.detail)


def name_found(host: str, port: int, *, timeout: float, proxied: bool, name: str = NAME_FOUND) -> DiagnosisStep:
    """Whether the host's name has addresses; `timeout` in seconds."""
    if proxied:
        return DiagnosisStep(name, StepResult.SKIPPED, "the system's proxy looks it up")
    found = addresses(host, port, timeout)
    if isinstance(found, str):
        return DiagnosisStep(
            name,
            StepResult.FAILED,
            f"The name {host} was not found.",
            "Check its spelling, and that this computer is in the right network (or VPN).",
            found,
        )
    return DiagnosisStep(name, StepResult.OK, f"{host} → {', '.join(found)}")


def port_answers(host: str, port: int, *, timeout: float, proxied: bool, name: str = PORT_ANSWERS) -> DiagnosisStep:
    """Whether something takes a TCP connection there; `timeout` in seconds.

    Raises
    ------
    TransportError
        Nothing does.
    """
    if proxied:
        return DiagnosisStep(name, StepResult.SKIPPED, "the system's proxy connects")
    began = time.perf_counter()
    dial(host, port, timeout=timeout).close()
    took = (time.perf_counter() - began) * 1000
    return DiagnosisStep(name, StepResult.OK, f"{port}/tcp in {took:.0f} ms")


def addresses(host: str, port: int, timeout: float) -> list[str] | str:
    """The addresses of a name, or why there are none. The system's look-up has no time-out: a thread waits."""
    found: queue.SimpleQueue[list[str] | str] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            found.put(str(error))
        else:
            found.put(list(dict.fromkeys(str(info[4][0]) for info in infos)))

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        return found.get(timeout=timeout)
    except queue.Empty:
        return f"no answer from the name server within {timeout:g} s"
