"""Where people come from besides sampling: folders of scans."""

from render.sources.config import ScanConfig, ScanRejected, ScanRules
from render.sources.files import ScanFiles, list_scans
from render.sources.report import ScanReport, inspect_scan
from render.sources.scans import load_scan, plan_scan

__all__ = [
    "ScanConfig",
    "ScanFiles",
    "ScanRejected",
    "ScanReport",
    "ScanRules",
    "inspect_scan",
    "list_scans",
    "load_scan",
    "plan_scan",
]
