"""Reading: a dataset by position or key, wherever fsspec reaches, and any tar as a stream."""

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from shards.errors import ShardError, UsageError
from shards.files import MANIFEST_NAME
from shards.index import KEY, MEMBERS, iterate_samples, open_tar, read_locations, read_table
from shards.manifest import Manifest, ShardRecord, read_manifest
from shards.sample import Sample
from shards.storage import Store

GAP = 1 << 16  # bytes: ranges closer than this are fetched as one request
CACHED_BYTES = 128 << 20  # of index rows that stay in memory: about 130 shards of 10,000 photos


class Dataset:
    """The samples of a manifest: shards in name order, samples in tar order; position 0..len-1 is global.

    Opening reads only the manifest; a shard's index is read when one of its samples is asked for, and stays
    while there is room (`CACHED_BYTES`). May be pickled, used in forked workers and read by several threads.
    Also opens datasets whose shards are tables: then `len` and `table`
    work, samples do not.
    """

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store, self.manifest = store, manifest
        self._starts = [0, *accumulate(shard.samples for shard in manifest.shards)]
        self._locations = _Cache(lambda number: self._read_index(number, read_locations))

    @classmethod
    def open(cls, url: Path | str, options: Mapping[str, Any] | None = None) -> "Dataset":
        """Open a folder or any fsspec URL that holds a manifest; `options` go to the filesystem.

        Raises UsageError when there is no manifest, ShardError when it is damaged.
        """
        place = str(url).removesuffix(f"/{MANIFEST_NAME}")
        return cls(Store(place, options or {}), read_manifest(place, options))

    @property
    def digest(self) -> str:
        """The manifest's digest: what names this data in the inputs of a later stage."""
        return self.manifest.digest

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, position: int) -> Sample:
        """The sample at a global position (negative counts from the end), with all its members."""
        return self.read(position)

    def __iter__(self) -> Iterator[Sample]:
        """Every sample in order, reading each shard from front to back."""
        for number, shard in enumerate(self.manifest.shards):
            index, where = self._locations(number), self.store.at(_tar(shard))
            with self.store.open(_tar(shard)) as stream:
                for key, members in zip(index[KEY], index[MEMBERS], strict=True):
                    yield _fetch(key.as_py(), members.as_py(), _stream_reader(stream, where))

    def read(self, position: int, members: Sequence[str] | None = None) -> Sample:
        """The sample at `position` with only the named members (all when None); no other byte is fetched.

        Raises IndexError beyond the end, UsageError when the sample lacks a member, ShardError, naming the
        key, when its bytes cannot be had.
        """
        number, row = self._locate(position)
        index, tar = self._locations(number), _tar(self.manifest.shards[number])
        key, ranges = index[KEY][row].as_py(), index[MEMBERS][row].as_py()
        if members is not None:
            ranges = _choose(key, ranges, members)
        try:
            return _fetch(key, ranges, lambda start, stop: self.store.read_range(tar, start, stop))
        except ShardError as error:
            raise ShardError(f"sample {key!r}: {error}") from error
        except Exception as error:  # each kind of store has its own; not all of them survive pickling
            reason = f"{type(error).__name__}: {error}"
            raise ShardError(f"sample {key!r}: {self.store.at(tar)}: cannot be read: {reason}") from error

    def get(self, key: str) -> Sample:
        """The sample with this key. Raises KeyError."""
        return self.read(self.position(key))

    def position(self, key: str) -> int:
        """The global position of a key, by bisection over all keys (read once). Raises KeyError."""
        keys, positions = self._sorted_keys
        place = bisect.bisect_left(range(len(keys)), key, key=lambda i: keys[i].as_py())
        if place == len(keys) or keys[place].as_py() != key:
            raise KeyError(key)
        return int(positions[place].as_py())

    def keys(self) -> Iterator[str]:
        """Every key, in order of position."""
        for number in range(len(self.manifest.shards)):
            yield from self._locations(number)[KEY].to_pylist()

    def table(self) -> pa.Table:
        """The index rows of all shards (or the rows of all tables) in order; a column a shard lacks is null
        there.
        """
        if not self.manifest.shards:
            return pa.table({})
        tables = [self._read_index(number, read_table) for number in range(len(self.manifest.shards))]
        return pa.concat_tables(tables, promote_options="permissive")

    def __getstate__(self) -> dict[str, Any]:
        return {"store": self.store, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    @cached_property
    def _sorted_keys(self) -> tuple[pa.Array, pa.Array]:
        keys = pa.chunked_array(
            [self._locations(i)[KEY] for i in range(len(self.manifest.shards))], pa.string()
        )
        order = pc.sort_indices(keys)
        return pa.chunked_array([keys.take(order)]).combine_chunks(), order

    def _locate(self, position: int) -> tuple[int, int]:
        wanted = position + len(self) if position < 0 else position
        if not 0 <= wanted < len(self):
            raise IndexError(f"{self.store.url}: position {position} of a dataset of {len(self)} samples")
        number = bisect.bisect_right(self._starts, wanted) - 1
        return number, wanted - self._starts[number]

    def _read_index(self, number: int, parse: Callable[[bytes, str], pa.Table]) -> pa.Table:
        shard = self.manifest.shards[number]
        name = f"{shard.name}.parquet"
        try:
            table = parse(self.store.read(name), self.store.at(name))
        except FileNotFoundError:
            raise ShardError(
                f"{self.store.at(name)}: missing, though the manifest lists it; run `vitruvian shards verify`"
            ) from None
        if table.num_rows != shard.samples:
            raise ShardError(
                f"{self.store.at(name)}: {table.num_rows} rows, the manifest says {shard.samples} samples: "
                "stale sidecar; run `vitruvian shards verify`"
            )
        return table.combine_chunks()


class _Cache:
    """Tables by number, the least recently used of them dropped beyond `CACHED_BYTES`; each is read once,
    however many threads ask for it at the same time.
    """

    def __init__(self, read: Callable[[int], pa.Table]) -> None:
        self._read, self._lock, self._bytes = read, threading.Lock(), 0
        self._kept: OrderedDict[int, pa.Table] = OrderedDict()
        self._coming: dict[int, Future[pa.Table]] = {}

    def __call__(self, number: int) -> pa.Table:
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
                return self._kept[number]
            found, mine = self._coming.get(number), number not in self._coming
            if found is None:
                found = self._coming[number] = Future()
        if mine:
            self._fetch(number, found)
        return found.result()

    def _fetch(self, number: int, coming: "Future[pa.Table]") -> None:
        try:
            table = self._read(number)
        except BaseException as error:
            with self._lock:
                del self._coming[number]
            coming.set_exception(error)
            return
        with self._lock:
            del self._coming[number]
            self._kept[number] = table
            self._bytes += table.nbytes
            while self._bytes > CACHED_BYTES and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        coming.set_result(table)


def read_tar(url: Path | str, options: Mapping[str, Any] | None = None) -> Iterator[Sample]:
    """Stream the samples of one tar, ours or foreign, compressed or not; no index needed.

    Keys and members follow webdataset's rule (split at the first dot, extension in lower case). Raises
    ShardError for damage, truncation, `..` paths, links, devices and keys whose files are not together;
    UsageError when absent.
    """
    with open_tar(url, options) as stream:
        yield from iterate_samples(stream, str(url))


def _tar(shard: ShardRecord) -> str:
    name = f"{shard.name}.tar"
    if name not in shard.files:
        raise UsageError(
            f"shard {shard.name!r} holds {', '.join(shard.files)}: a table, not samples; use `table()`"
        )
    return name


def _choose(key: str, ranges: list[dict[str, Any]], wanted: Iterable[str]) -> list[dict[str, Any]]:
    known = {found["name"]: found for found in ranges}
    try:
        return [known[name] for name in wanted]
    except KeyError as missing:
        raise UsageError(f"sample {key!r} has no member {missing}; it has: {', '.join(known)}") from None


def _fetch(key: str, ranges: list[dict[str, Any]], read: Callable[[int, int], bytes]) -> Sample:
    """Read the ranges of one sample, neighbours in one request, and cut them apart."""
    members: dict[str, bytes] = {}
    for run in _runs(sorted(ranges, key=lambda found: found["offset"])):
        start = run[0]["offset"]
        data = memoryview(read(start, run[-1]["offset"] + run[-1]["size"]))
        for found in run:
            first = found["offset"] - start
            members[found["name"]] = bytes(data[first : first + found["size"]])
    return Sample(key, {found["name"]: members[found["name"]] for found in ranges})


def _runs(ranges: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Group ranges (sorted by offset) that lie closer than GAP."""
    run: list[dict[str, Any]] = []
    for found in ranges:
        if run and found["offset"] - (run[-1]["offset"] + run[-1]["size"]) > GAP:
            yield run
            run = []
        run.append(found)
    if run:
        yield run


def _stream_reader(stream: Any, where: str) -> Callable[[int, int], bytes]:
    def read(start: int, stop: int) -> bytes:
        stream.seek(start)
        data: bytes = stream.read(stop - start)
        if len(data) != stop - start:
            raise ShardError(f"{where}: truncated: asked for bytes {start}..{stop}, got {len(data)}")
        return data

    return read
