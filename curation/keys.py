"""Keys and digests as numbers: 32 hex digits are two uint64, the high half first, so that they sort alike."""

import binascii

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt64

from shards.errors import ShardError

DIGITS = 32


def to_words(column: pa.Array) -> UInt64[np.ndarray, "rows 2"]:
    """The first 32 hex digits of each value as two numbers; (0, 0) for null and "" (what cannot be read).

    Raises ShardError for anything else that is no hex or is shorter.
    """
    words = np.zeros((len(column), 2), np.uint64)
    size = pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    there = size > 0
    if not there.any():
        return words
    if size[there].min() < DIGITS:
        raise ShardError(f"a key or digest of {size[there].min()} characters; expected at least {DIGITS}")
    digits = column if there.all() else column.filter(pa.array(there))
    if size[there].max() > DIGITS:
        digits = pc.utf8_slice_codeunits(digits, 0, DIGITS)
    _, offsets, data = digits.buffers()
    start = int(np.frombuffer(offsets, np.int32)[digits.offset])
    try:
        raw = binascii.unhexlify(memoryview(data)[start : start + DIGITS * len(digits)])
    except binascii.Error as error:
        raise ShardError(f"a key or digest that is no hex: {error}") from None
    words[there] = np.frombuffer(raw, ">u8").reshape(-1, 2)
    return words


def to_hex(words: UInt64[np.ndarray, "rows 2"]) -> pa.Array:
    """The inverse of `to_words`: 32 hex digits each, "" for (0, 0)."""
    text = words.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(0, DIGITS * (len(words) + 1), DIGITS, dtype=np.int32)
    found = pa.StringArray.from_buffers(len(words), pa.py_buffer(offsets), pa.py_buffer(text))
    absent = ~words.any(axis=1)
    return pc.if_else(pa.array(absent), "", found) if absent.any() else found
