"""Series that come with one request: in another order, with images that nobody wants, slowly, to many at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.model.study import InstanceRef, SeriesInfo
from core.nodes.dicomweb import ahead, speed
from core.nodes.dicomweb.ahead import SeriesAhead
from core.nodes.dicomweb.node import DicomwebNode
from core.nodes.dicomweb.read import InMemory
from core.nodes.dicomweb.series_stream import Blocks
from core.nodes.dicomweb.speed import Speed
from tests.support.dicomweb_nodes import dicomweb_node
from tests.support.studies import Study, make_study
from tests.support.web_service import Asked, Reply, web_service

MULTIPART = 'multipart/related; type="application/dicom"; boundary=bb'
MIDDLE = 100_000


def multipart(files: list[bytes], *, sized: bool = True) -> Reply:
    parts = (
        b"--bb\r\nContent-Type: application/dicom\r\n%b\r\n%b\r\n"
        % (b"Content-Length: %d\r\n" % len(f) if sized else b"", f)
        for f in files
    )
    return Reply(200, b"".join(parts) + b"--bb--", {"Content-Type": MULTIPART})


def serving(study: Study, order: Callable[[list[str]], list[str]], *, sized: bool = True) -> Callable[[Asked], Reply]:
    """A service that gives the images of series in an order of its own."""
    plan = study.plan
    files = dict(zip(study.sop_uids, study, strict=True))
    series: dict[str, list[str]] = {}
    for number, _, sop_uid in plan.positions():
        series.setdefault(plan.series_uid(number), []).append(sop_uid)

    def answer(asked: Asked) -> Reply:
        _, _, path = asked.path.partition("/series/")
        series_uid, _, sop_uid = path.partition("/instances/")
        return multipart([files[uid] for uid in ([sop_uid] if sop_uid else order(series[series_uid]))], sized=sized)

    return answer


def refs(study: Study, count: int | None = None) -> list[InstanceRef]:
    plan = study.plan
    return [
        InstanceRef(uid, plan.series_uid(n), study.study_uid, series=SeriesInfo("", "", instance_count=count))
        for n, _, uid in plan.positions()
    ]


def read(node: DicomwebNode, one: InstanceRef) -> bytes:
    whole = bytearray()
    piece = memoryview(bytearray(30_000))
    with node.open(one) as stream:
        while count := stream.readinto(piece):
            whole += piece[:count]
        assert stream.length == len(whole)
    return bytes(whole)


def read_all(node: DicomwebNode, wanted: list[InstanceRef], threads: int = 8) -> list[bytes]:
    node.read_ahead(wanted)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda one: read(node, one), wanted))


def asked_for(asked: list[Asked]) -> tuple[int, int]:
    """Requests for series, and for single images."""
    singles = sum("/instances/" in one.path for one in asked)
    return len(asked) - singles, singles


def ahead_of(node: DicomwebNode) -> SeriesAhead:
    assert node._ahead is not None
    return node._ahead


@pytest.mark.parametrize("sized", [True, False])
def test_many_threads_share_a_series_and_each_gets_its_own_image(sized: bool) -> None:
    study = make_study(series=2, instances=60, size_bytes=MIDDLE)
    with web_service(serving(study, list, sized=sized)) as (url, asked), dicomweb_node(url) as node:
        assert read_all(node, refs(study)) == list(study)
        series, singles = asked_for(asked)
        assert series == 2
        assert singles < 60


def test_images_come_in_any_order_and_no_more_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "SHELF", 10 * MIDDLE)
    study = make_study(series=3, instances=50, size_bytes=MIDDLE)

    def shuffled(uids: list[str]) -> list[str]:
        return random.Random(7).sample(uids, len(uids))

    with web_service(serving(study, shuffled)) as (url, asked), dicomweb_node(url) as node:
        assert read_all(node, refs(study)) == list(study)
        series, singles = asked_for(asked)
        assert series == 1, "the first one shows that they come in another order"
        assert singles > 100
        assert ahead_of(node)._held <= 10 * MIDDLE


def test_a_series_of_which_little_is_wanted_is_not_fetched_to_its_end() -> None:
    study = make_study(instances=400, size_bytes=MIDDLE)
    with web_service(serving(study, list)) as (url, asked), dicomweb_node(url) as node:
        wanted = [*refs(study)[:24], *refs(study)[-60:]]
        assert read_all(node, wanted) == [*list(study)[:24], *list(study)[-60:]]
        stream_of = ahead_of(node)._together
        assert asked_for(asked)[0] == 1
        assert stream_of._images < 120


def test_a_series_that_is_nearly_complete_already_is_not_fetched() -> None:
    study = make_study(instances=400, size_bytes=MIDDLE)
    with web_service(serving(study, list)) as (url, asked), dicomweb_node(url) as node:
        wanted = refs(study, count=400)[-100:]
        assert read_all(node, wanted) == list(study)[-100:]
        assert asked_for(asked) == (0, 100)


def test_where_single_images_are_faster_they_are_fetched_singly_and_series_are_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = make_study(series=40, instances=10, size_bytes=MIDDLE)
    now = [0.0]
    monkeypatch.setattr(speed, "monotonic", lambda: now[0])
    with web_service(serving(study, list)) as (url, asked), dicomweb_node(url) as node:
        wanted = refs(study)
        node.read_ahead(wanted)
        files = list(study)
        for at, one in enumerate(wanted):
            before = asked_for(asked)[0]
            with node.open(one) as stream:
                now[0] += 0.01  # a single image takes so long
                whole = bytearray(len(files[at]))
                view, filled = memoryview(whole), 0
                while count := stream.readinto(view[filled:]):
                    filled += count
            if asked_for(asked)[0] > before:
                ahead_of(node)._together._seconds += 10  # and a series that long
            assert whole == files[at]
        series, singles = asked_for(asked)
        assert 3 <= series <= 6, "two of them tell; then every 16th is tried"
        assert singles >= 340


def test_memory_is_used_again_only_when_nobody_reads_it() -> None:
    blocks = Blocks()
    first = blocks.take(500_000)
    assert blocks.take(500_000) is not first
    blocks.give(first)
    assert blocks.take(100_000) is not first, "it would be wasted on a small one"
    assert blocks.take(490_000) is first
    study = make_study(instances=30, size_bytes=MIDDLE)
    with web_service(serving(study, list)) as (url, _asked), dicomweb_node(url) as node:
        node.read_ahead(refs(study))
        left = []
        for one in refs(study):
            with node.open(one) as stream:
                left.append(stream)
        late = [stream for stream in left if isinstance(stream, InMemory)]
        assert late
        assert all(stream.readinto(memoryview(bytearray(10))) == 0 for stream in late)


def test_speed_counts_the_time_in_which_something_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(speed, "monotonic", lambda: now[0])
    measured = Speed()
    for _ in range(20):
        measured.begin()
        measured.begin()
        now[0] += 1.0
        measured.came(1000)
        measured.end()
        measured.came(1000)
        measured.end()
        now[0] += 50.0
    assert measured.rate == pytest.approx(2000)
    measured.forget()
    assert measured.rate is None
