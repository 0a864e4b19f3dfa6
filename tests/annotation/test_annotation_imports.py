"""The room stands on numpy, OpenCV and Pillow: training machines have no bpy and no Ray."""

import subprocess
import sys

MODULES = ("camera", "checks", "codecs", "draw", "keypoints", "labels", "parts")
HEAVY = ("torch", "bpy", "ray", "matplotlib", "anny", "trimesh", "onnxruntime", "skimage")


def test_importing_every_module_loads_nothing_heavy() -> None:
    code = f"""
import importlib, sys
for name in {MODULES}:
    importlib.import_module("annotation." + name)
print([name for name in {HEAVY} if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
