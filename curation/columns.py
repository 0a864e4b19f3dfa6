"""The columns of an annotation table: one row per input, what was measured, never what was decided.

`select` adds `kept` and `reason` to its own table; thresholds are not applied here.
"""

import pyarrow as pa

BOX = pa.struct([(name, pa.float32()) for name in ("x0", "y0", "x1", "y1", "score")])

# Which input it is, and where its bytes lie.
IDENTITY = (
    pa.field("source", pa.string(), nullable=False),  # path of the file or tar, relative to the pool
    pa.field("member", pa.string()),  # name inside the tar; null for a file of its own
    pa.field("offset", pa.int64()),  # where the member's bytes begin in the tar; null for a file
    pa.field("bytes", pa.int64(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),  # of the bytes, 64 hex; "" when they cannot be read
    pa.field("key", pa.string(), nullable=False),  # first 32 digits of sha256: byte duplicates share it
    pa.field("metadata", pa.string()),  # the sample's json member in its tar, as it came
)

# What decoding says. Sizes are those of the upright image: EXIF orientation is applied before anything is
# measured.
DECODED = (
    pa.field("status", pa.string(), nullable=False),  # "ok" or "decode:<why>"
    pa.field("format", pa.string()),  # "jpg", "png" or "webp", by content, whatever the file is called
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("orientation", pa.int8()),  # EXIF 1..8; 1 when the file does not say
)

# What the filters and the detector say; null when the input was not decoded. Boxes: see
# `curation.boxes.Boxes`.
MEASURED = (
    pa.field("pixel_sha256", pa.string()),  # of the upright RGB pixels: equal pictures in different files
    pa.field("text_area", pa.float32()),  # share of the image covered by lines of text, 0..1
    pa.field("text_boxes", pa.list_(BOX)),
    pa.field("person_boxes", pa.list_(BOX)),
)

ANNOTATIONS = pa.schema([*IDENTITY, *DECODED, *MEASURED])

DECISION = (
    pa.field(
        "people", pa.int32(), nullable=False
    ),  # boxes above the counting threshold (Fig. 2 of the paper)
    pa.field("kept", pa.bool_(), nullable=False),
    pa.field("reason", pa.string()),  # why not: exactly one, null when kept
)

DECISIONS = pa.schema([*ANNOTATIONS, *DECISION])

DECODED_OK = "ok"
