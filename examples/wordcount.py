"""Word count: the whole of a job is a `map` and the name of a builtin reducer.

    onerack run examples/wordcount.py 'books/*.txt' --out counts

`map` is called once per line. What it yields is grouped by key on all cores; "sum" adds up the values of each key.
`counts/` then holds `part-00000 ...`: a word, a tab, its count, a line each, in order of the words.
"""

from onerack.mapreduce import Job


class WordCount(Job):
    """How often each word occurs."""

    reduce = "sum"

    def map(self, key, line):  # key: (file, offset of the line)
        for word in line.split():
            yield word, 1
