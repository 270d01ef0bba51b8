"""Whoever silences a library in one thread neither silences nor breaks the others: the filters are the program's."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable

from core.nodes.local import header
from core.spool import attributes
from core.wire.dimse import identifier

JAPANESE = b"\x1b$B;3ED\x1b(B"


def test_filters_are_as_before_whoever_reads_texts_at_once() -> None:
    before = list(warnings.filters)
    stop = threading.Event()
    trouble: list[Exception] = []

    def again_and_again(work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()
            except Exception as error:  # noqa: BLE001 - whatever it is
                trouble.append(error)

        return run

    def warned() -> None:
        warnings.warn("a library's", UserWarning, stacklevel=1)

    works: list[Callable[[], object]] = [
        lambda: identifier.decoded(JAPANESE, "\\ISO 2022 IR 87"),
        lambda: identifier.decoded(b"\x1b$Z" + JAPANESE, "\\ISO 2022 IR 87"),
        lambda: header.decoded(JAPANESE, ("iso8859", "iso2022_jp")),
        lambda: attributes.decoded(JAPANESE, ("iso8859", "iso2022_jp")),
    ]
    with warnings.catch_warnings():
        # One of its own: `warnings` takes an equal filter away for a moment before it puts it in front.
        warnings.filterwarnings("ignore", message="a library's")
        inside = list(warnings.filters)
        threads = [threading.Thread(target=again_and_again(work)) for work in (*works, warned)]
        for thread in threads:
            thread.start()
        stop.wait(1.0)
        stop.set()
        for thread in threads:
            thread.join()
        assert not trouble
        assert warnings.filters == inside
    assert warnings.filters == before


def test_a_text_that_a_character_set_does_not_fit_is_read_otherwise() -> None:
    assert identifier.decoded(JAPANESE, "\\ISO 2022 IR 87") == "山田"
    assert identifier.decoded("Müller".encode(), "\\ISO 2022 IR 87") == "Müller"
