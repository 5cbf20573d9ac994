"""Reading ahead and writing behind: in order, in bounds, and no error is lost."""

import threading

import pytest

from fastism_cli.errors import RegionError, ResourceError
from fastism_cli.run.score_regions import read_ahead, write_behind


def test_reading_ahead_keeps_the_order_and_its_distance():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    with read_ahead(items(), depth=2) as ready:
        for i in ready:
            assert max(made) <= i + 4  # the one here, two in the queue, one in the making
    assert made == list(range(50))


def test_an_error_of_the_reader_comes_after_what_it_has_read():
    def items():
        yield 1
        raise RegionError("line 2")

    seen = []
    with pytest.raises(RegionError, match="line 2"), read_ahead(items()) as ready:
        seen.extend(ready)
    assert seen == [1] or seen == []


def test_leaving_early_closes_the_generator():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    with read_ahead(items()) as ready:
        next(iter(ready))
    assert closed.wait(5)


def test_writing_behind_keeps_the_order_and_ends_after_the_last():
    written: list[int] = []
    with write_behind(written.append) as put:
        for i in range(100):
            put(i)
    assert written == list(range(100))


def test_an_error_of_the_writer_ends_the_run():
    def write(item: int) -> None:
        if item == 3:
            raise ResourceError("full")

    with pytest.raises(ResourceError, match="full"), write_behind(write) as put:
        for i in range(10**6):
            put(i)


def test_an_error_of_the_last_write_is_not_lost():
    def write(item: int) -> None:
        raise ResourceError("full")

    with pytest.raises(ResourceError, match="full"), write_behind(write) as put:
        put(1)
