"""Two threads beside the main one, so that reading, computing and writing overlap and none waits for the disk.

Both hold a fixed number of blocks. An exception in either thread reaches the main one at its next block, and leaving
the context for whatever reason ends the thread: nothing is left running.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_END = object()
_WAKE = 0.1  # seconds after which a waiting thread looks whether it is to stop


class _Stopped(Exception):
    """The other side has gone."""


class _Channel(Generic[T]):
    """A bounded queue that either side can close."""

    def __init__(self, depth: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=depth)
        self._stop = threading.Event()

    def put(self, item: Any) -> None:
        while not self._stop.is_set():
            try:
                return self._queue.put(item, timeout=_WAKE)
            except queue.Full:
                continue
        raise _Stopped

    def get(self) -> Any:
        while not self._stop.is_set():
            try:
                return self._queue.get(timeout=_WAKE)
            except queue.Empty:
                continue
        raise _Stopped

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def read_ahead(items: Generator[T, None, None], *, depth: int = 1) -> Iterator[Iterator[T]]:
    """Run a generator in a thread, at most ``depth`` finished items ahead (and one that it works on).

    Yields an iterator of its items, which raises what the generator raises.
    """
    channel: _Channel[T] = _Channel(depth)
    thread = threading.Thread(target=_produce, args=(items, channel), name="reader", daemon=True)
    thread.start()
    try:
        yield _received(channel)
    finally:
        channel.stop()
        thread.join()


def _produce(items: Generator[T, None, None], channel: _Channel[T]) -> None:
    try:
        with closing(items):
            for item in items:
                channel.put(item)
        channel.put(_END)
    except _Stopped:
        pass
    except BaseException as error:
        _hand_over(channel, error)


def _hand_over(channel: _Channel[Any], error: BaseException) -> None:
    try:
        channel.put(_Failure(error))
    except _Stopped:
        pass


class _Failure:
    """An exception on its way from a thread to the main one."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _received(channel: _Channel[T]) -> Iterator[T]:
    while (item := channel.get()) is not _END:
        if isinstance(item, _Failure):
            raise item.error
        yield item


@contextmanager
def write_behind(write: Callable[[T], object], *, depth: int = 1) -> Iterator[Callable[[T], None]]:
    """Call ``write`` in a thread, in order, at most ``depth`` items behind.

    Yields a function that hands an item over. It raises what an earlier ``write`` raised, and so does leaving the
    context, which waits for the last ``write`` unless the body failed.
    """
    behind = _Behind(write, depth)
    behind.thread.start()
    try:
        yield behind.put
        behind.finish()
    finally:
        behind.channel.stop()
        behind.thread.join()


class _Behind(Generic[T]):
    def __init__(self, write: Callable[[T], object], depth: int) -> None:
        self.channel: _Channel[T] = _Channel(depth)
        self.thread = threading.Thread(target=self._consume, name="writer", daemon=True)
        self._write = write
        self._error: BaseException | None = None

    def put(self, item: Any) -> None:
        try:
            self.channel.put(item)
        except _Stopped:
            self._raise()

    def finish(self) -> None:
        self.put(_END)
        self.thread.join()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _consume(self) -> None:
        try:
            while (item := self.channel.get()) is not _END:
                self._write(item)
        except _Stopped:
            pass
        except BaseException as error:
            self._error = error
            self.channel.stop()
