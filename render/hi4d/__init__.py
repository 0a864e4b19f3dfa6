"""Hi4D (Yin et al., CVPR 2023; the user's own copy) as a dataset of ours: its pictures with labels from its
scans. What is known about the data and what is assumed: docs/evaluate.md.
"""

from render.hi4d.files import PUBLISHED_CAMERAS, PUBLISHED_PAIRS
from render.hi4d.job import STAGE_NAME, Hi4dConfig, Hi4dWorker, plan, provenance, stage_key

__all__ = [
    "PUBLISHED_CAMERAS",
    "PUBLISHED_PAIRS",
    "STAGE_NAME",
    "Hi4dConfig",
    "Hi4dWorker",
    "plan",
    "provenance",
    "stage_key",
]
