"""Bad records: what cannot be processed is set aside with its file, its offset and the traceback.

    onerack run examples/bad_records.py --out tokens

`token.py` is nearly a table of `NAME = number`. On every other line `map` raises. With `on_error = "skip:500"` such a
line is tried twice, then kept in `tokens/_quarantine/` and left out; with the default, "fail", the job would stop and
show the first of them. `onerack debug` runs one record again, here, under pdb.
"""

import token

from onerack.mapreduce import Job, count


class Tokens(Job):
    """Name and number of each token."""

    input = token.__file__
    reduce = "first"
    on_error = "skip:500"

    def map(self, key, line):
        if not line.strip():
            count("blank lines")
            return
        name, number = line.split(" = ")
        yield name, int(number)
