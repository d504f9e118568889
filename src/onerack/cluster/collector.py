"""The garbage collector, kept away from what lives long.

The idea: a store holds millions of small lists that refer to nothing in a circle. To look through all of them, only to
find that out, takes Python a good part of a second, in which nobody is answered and no heartbeat leaves. What is young
is looked through as ever; what has survived that is not looked at again.

The rule: a circle that becomes old is never freed. So this is for a process that serves, and whose old objects are the
store's; circles of calls and tasks die young.
"""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 2000
"""Objects made since the last look at the youngest. Each may refer to many others: a look at more would be long."""
LOOKS_BEFORE_MIDDLE: Final = 5
NEVER: Final = 1 << 30


def spare_old_objects() -> None:
    """From now on, for this process."""
    gc.collect()
    gc.freeze()  # Modules, classes, code: they are there to stay.
    gc.set_threshold(YOUNG, LOOKS_BEFORE_MIDDLE, NEVER)
