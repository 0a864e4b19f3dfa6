"""The columns of an annotation table: one row per input, what was measured, never what was decided.

Thresholds are not applied here: `select` applies them, and writes tables of its own (`DECISIONS`). A column
is null when it was not measured: the input was not decoded, or no model for it was configured. Lengths are
pixels of the upright image: EXIF orientation is applied before anything is measured.
"""

import pyarrow as pa

BOX = pa.struct([(name, pa.float32()) for name in ("x0", "y0", "x1", "y1", "score")])
THUMBNAIL_SIDE = 16  # px

# Which input it is, and where its bytes lie.
IDENTITY = (
    pa.field("source", pa.string(), nullable=False),  # path of the file, tar or table, relative to the pool
    pa.field(
        "member", pa.string()
    ),  # name inside the tar, or column of the table; null for a file of its own
    pa.field("offset", pa.int64()),  # byte in the tar or text table, or row of the parquet; null for a file
    pa.field("bytes", pa.int64(), nullable=False),
    pa.field("sha256", pa.string(), nullable=False),  # of the bytes, 64 hex; "" when they cannot be read
    pa.field("key", pa.string(), nullable=False),  # first 32 digits of sha256: byte duplicates share it
    pa.field("metadata", pa.string()),  # the sample's json member, or the row's other columns, as JSON
)

# What decoding says.
DECODED = (
    pa.field("status", pa.string(), nullable=False),  # "ok" or "decode:<why>"
    pa.field("format", pa.string()),  # "jpg", "png" or "webp", by content, whatever the file is called
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("orientation", pa.int8()),  # EXIF 1..8; 1 when the file does not say
)

# What the file says of where its pixels come from: EXIF, and the IPTC vocabulary of digital sources (XMP).
CAMERA = (
    pa.field("camera_make", pa.string()),
    pa.field("camera_model", pa.string()),
    pa.field("software", pa.string()),
    pa.field("taken", pa.string()),  # YYYY-MM-DDTHH:MM:SS by the camera's clock
    pa.field("digital_source", pa.string()),  # "digitalCapture", "trainedAlgorithmicMedia", ...
)

# Statistics of the pixels; formulas and ranges in `curation.filters.quality`.
QUALITY = tuple(
    pa.field(name, pa.float32())
    for name in ("brightness", "contrast", "sharpness", "entropy", "flatness", "blockiness", "colourfulness")
)

# What filters and detector say. Boxes: see `curation.boxes.Boxes`. Scores: 0..1, higher is more of it.
MEASURED = (
    pa.field("pixel_sha256", pa.string()),  # of the upright RGB pixels: equal pictures in different files
    pa.field(
        "phash", pa.uint64()
    ),  # 64-bit perceptual hash: Hamming distance between similar pictures is small
    pa.field(
        "thumbnail", pa.binary(THUMBNAIL_SIDE**2)
    ),  # uint8 luminance, 16 x 16, for telling hash collisions
    pa.field("text_area", pa.float32()),  # share of the image covered by lines of text, 0..1
    pa.field("text_boxes", pa.list_(BOX)),
    pa.field("watermark", pa.float32()),
    pa.field("art", pa.float32()),  # drawing, painting, render, graphic: whatever is no photograph
    pa.field(
        "unnatural", pa.float32()
    ),  # collage, meme, poster, screenshot, mannequin: by zero-shot models only
    pa.field("aesthetic", pa.float32()),  # by zero-shot models only; the scale is the model's
    pa.field("person_boxes", pa.list_(BOX)),
)

ANNOTATIONS = pa.schema([*IDENTITY, *DECODED, *CAMERA, *QUALITY, *MEASURED])

DECISIONS = pa.schema(
    [
        pa.field("unit", pa.dictionary(pa.int32(), pa.string()), nullable=False),  # the annotation table ...
        pa.field("row", pa.int32(), nullable=False),  # ... and the row in it
        pa.field("key", pa.string(), nullable=False),
        pa.field("people", pa.int32(), nullable=False),  # boxes above the counting threshold (Fig. 2)
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reason", pa.string()),  # why not: exactly one, null when kept
    ]
)

DECODED_OK = "ok"
