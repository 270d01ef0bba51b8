"""Something in front of a server answers instead of it, or cuts connections: at every step, for a while or for good."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.crossing import Crossing, says
from tests.support.proxy import Cut, Fault, FaultProxy
from tests.support.studies import ct_study

Make = Callable[[FaultProxy, str, int | None], Fault]

#: What goes wrong, and words of what a person reads about it.
TROUBLES: dict[str, tuple[Make, str, str]] = {
    "502": (
        lambda proxy, where, times: proxy.answer(502, where, times=times),
        "A proxy answered that “{node}” behind it is not reachable.",
        "Check that the server behind the proxy runs.",
    ),
    "503": (
        lambda proxy, where, times: proxy.answer(503, where, times=times, retry_after=1),
        "“{node}” is not available at the moment.",
        "look at the server and its database.",
    ),
    "html": (
        lambda proxy, where, times: proxy.answer_html(where, times=times),
        "“{node}”",
        "Check the address",
    ),
    "404": (
        lambda proxy, where, times: proxy.answer(404, where, times=times, body="<h1>Not found</h1>"),
        "The address of “{node}” is wrong",
        "Nothing was taken as deleted.",
    ),
}

#: At which step: whose proxy, which requests, and how many of them are let pass before.
STEPS: dict[str, tuple[str, str, int]] = {
    "inventory": ("from", r"^(GET|POST) /(studies|series|tools)", 0),
    "read": ("from", r"/(file|attachments/dicom/data)$", 0),
    "check": ("to", r"^(POST /tools|GET /instances)", 0),
    "store": ("to", r"^POST /instances$", 0),
    "confirm": ("to", r"^(POST /tools|GET /instances)", 1),
    "tell apart": ("to", r"^PUT /studies/[^/]+/metadata/", 0),
    "delete": ("from", r"^DELETE /instances", 0),
}


def _put(crossing: Crossing, step: str, trouble: Make, times: int | None) -> tuple[str, Fault]:
    node, where, passing = STEPS[step]
    proxy = crossing.before_source if node == "from" else crossing.before_destination
    if passing:
        proxy.delay(0.0, where, times=passing)
    return node, trouble(proxy, where, times)


@pytest.mark.parametrize("orthanc_pair", ["1.10>1.12"], indirect=True)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_once(crossing: Crossing, trouble: str, step: str) -> None:
    """It passes by: everything goes on by itself, and each image is sent once."""
    _node, fault = _put(crossing, step, TROUBLES[trouble][0], 1)
    crossing.run().expect(0)
    assert fault.hits == 1
    crossing.moved()
    assert set(crossing.destination.received().values()) == {1}


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("trouble", TROUBLES)
def test_for_good(crossing: Crossing, trouble: str, step: str) -> None:
    """It stays: the run ends with a sentence and a next step, and nothing is deleted."""
    make, sentence, next_step = TROUBLES[trouble]
    node, fault = _put(crossing, step, make, None)
    run = crossing.run("--max-attempts", "2").expect(1)
    assert fault.hits > 0
    says(run, sentence.format(node=node), next_step)
    crossing.nothing_deleted()
    if trouble == "502":
        fault.off()
        crossing.run().expect(0)
        crossing.moved()
        assert set(crossing.destination.received().values()) == {1}


@pytest.mark.parametrize("how", Cut)
@pytest.mark.parametrize("side", ["from", "to"])
def test_cut_in_mid_body(crossing: Crossing, side: str, how: Cut) -> None:
    """A connection ends within the bytes of an image, on either side, for small and large ones."""
    large = ct_study(3, accession="LARGE")
    crossing.source.upload(large)
    if side == "from":
        fault = crossing.before_source.cut_response(600, "/(file|attachments/dicom/data)$", times=6, how=how)
    else:
        fault = crossing.before_destination.cut_request(600, "^POST /instances$", times=6, how=how)
    crossing.run().expect(0)
    assert fault.hits == 6
    assert crossing.destination.digests() == {**crossing.study.digests(), **large.digests()}
    assert crossing.source.count() == 0


def test_stored_but_never_acknowledged(crossing: Crossing) -> None:
    """The destination is asked before an image whose answer got lost would be sent again."""
    fault = crossing.before_destination.cut_response(0, "^POST /instances$", times=3)
    crossing.run().expect(0)
    assert fault.hits == 3
    crossing.moved()
    assert set(crossing.destination.received().values()) == {1}


def test_deleted_but_never_acknowledged(crossing: Crossing) -> None:
    fault = crossing.before_source.cut_response(0, "^DELETE /instances", times=2)
    crossing.run().expect(0)
    assert fault.hits >= 1
    crossing.moved()


def test_a_connection_cut_again_and_again(crossing: Crossing) -> None:
    crossing.before_destination.cut_request(300, "^POST /instances$")
    run = crossing.run().expect(1)
    says(run, "The connection to “to” was cut", "look at the network and at the server's log")
    assert crossing.destination.count() == 0
    crossing.nothing_deleted()


def test_silence(crossing: Crossing) -> None:
    """The destination takes images and never answers."""
    crossing.before_destination.hang("^POST /instances$")
    run = crossing.run("--max-attempts", "1").expect(1)
    says(run, "“to” did not answer in time.", "raise the time-out")
    crossing.nothing_deleted()
