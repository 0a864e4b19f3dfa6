"""Work that threads do ahead of whoever takes its results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
U = TypeVar("U")


def in_order(
    work: Callable[[T], U], items: Iterable[T], depth: int, threads: int | None = None
) -> Iterator[tuple[T, U]]:
    """(item, work(item)) in the order of the items, while `threads` (None: `depth`) work on the next `depth`.

    At most `depth` + 1 results are held. What `work` raises is raised when the turn of its item has come;
    whoever stops early cancels what has not begun and waits for what has.
    """
    pool = ThreadPoolExecutor(max(threads or depth, 1), thread_name_prefix="in-order")
    pending: deque[tuple[T, Future[U]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > depth:
                first, found = pending.popleft()
                yield first, found.result()
        while pending:
            first, found = pending.popleft()
            yield first, found.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
