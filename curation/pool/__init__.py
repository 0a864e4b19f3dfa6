"""A raw pool: which inputs there are, cut into units of work; and how to read them, at once or again.

`place` opens what may be opened, `listing` cuts, `files`, `tars` and `tables` (parquet, text) read. The page
is docs/pool.md.
"""

from curation.pool.inputs import Input, Layout, Pool, PoolConfig, decode_name, encode_name
from curation.pool.listing import list_pool
from curation.pool.reading import read_input, read_unit

__all__ = [
    "Input",
    "Layout",
    "Pool",
    "PoolConfig",
    "decode_name",
    "encode_name",
    "list_pool",
    "read_input",
    "read_unit",
]
