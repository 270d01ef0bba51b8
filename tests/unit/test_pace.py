"""Speed and time left, whether sizes are known or not."""

from __future__ import annotations

import pytest

from core.engine.pace import Pace
from core.model.outcome import Counts


def test_by_bytes_where_sizes_are_known() -> None:
    pace = Pace()
    assert pace.measure(0.0, Counts(planned=10, bytes_total=1000)) == (0.0, None)
    speed, left = pace.measure(2.0, Counts(planned=6, verified=4, bytes_total=1000, bytes_done=400))
    assert speed == pytest.approx(200)
    assert left == pytest.approx(3.0)
    for second in range(3, 20):  # nothing more moves: an old speed is no speed
        speed, left = pace.measure(float(second), Counts(planned=6, verified=4, bytes_total=1000, bytes_done=400))
    assert (speed, left) == (0.0, None)


def test_by_images_where_nobody_knows_their_size() -> None:
    pace = Pace()
    pace.measure(0.0, Counts(sending=640))
    speed, left = pace.measure(4.0, Counts(sending=480, sent=60, committed=80, skipped=20))
    assert speed == 0.0, "no bytes are invented"
    assert left == pytest.approx(480 / 40)


def test_two_looks_at_once_tell_nothing() -> None:
    pace = Pace()
    pace.measure(0.0, Counts(sending=10))
    assert pace.measure(0.05, Counts(verified=10)) == (0.0, None)
