"""What lives long is not looked through; circles that die young are freed as ever."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, weakref
from onerack.cluster.collector import spare_old_objects

class Circle:
    def __init__(self): self.own = self

looked = []
gc.callbacks.append(lambda phase, info: looked.append(info["generation"]) if phase == "start" else None)
spare_old_objects()
looked.clear()
seen = weakref.ref(Circle())
kept = [[number] for number in range(1_000_000)]
print(seen() is None, 2 in looked, 0 in looked, gc.get_freeze_count() > 1000)
"""


def test_old_objects_are_not_looked_through() -> None:
    words = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert words.split() == ["True", "False", "True", "True"]
