"""Two threads beside the main one: read the next block and write the last one while this one is computed.

Each thread holds a fixed number of blocks. An exception in a thread is raised in the main thread at its next block.
Leaving the context for any reason ends the thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_END = object()


@contextmanager
def read_ahead(items: Generator[T, None, None], *, depth: int = 1) -> Iterator[Generator[T, None, None]]:
    """Run a generator in a thread, at most ``depth`` finished items ahead, besides the one that it works on.

    The context is an iterator over the items. It raises the generator's exception.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="reader")
    ahead: deque[Future[Any]] = deque(pool.submit(next, items, _END) for _ in range(depth + 1))

    def received() -> Generator[T, None, None]:
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, items, _END))
            yield item

    try:
        yield received()
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()


@contextmanager
def write_behind(write: Callable[[T], object], *, depth: int = 1) -> Iterator[Callable[[T], None]]:
    """Call ``write`` in a thread, in order; at most ``depth`` items wait, besides the one that it works on.

    The context is a function that hands an item over. It raises the exception of an earlier ``write``, and so does
    leaving the context, which waits for the last ``write`` unless the body failed. Nothing is written after an error.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="writer")
    behind: deque[Future[None]] = deque()
    failed: list[BaseException] = []

    def guarded(item: T) -> None:
        if failed:
            return
        try:
            write(item)
        except BaseException as error:
            failed.append(error)

    def put(item: T) -> None:
        behind.append(pool.submit(guarded, item))
        if len(behind) > depth + 1:
            behind.popleft().result()
        if failed:
            raise failed[0]

    try:
        yield put
        pool.shutdown()
        if failed:
            raise failed[0]
    finally:
        pool.shutdown(cancel_futures=True)
