"""In a notebook or a script: `run` takes functions that were defined on the spot, and gives the results back.

    python examples/notebook.py 'books/*.txt'

`run` works with or without an event loop, and needs no `if __name__ == "__main__"`: the worker processes get your
functions, not your script.
"""

import sys
import tempfile

from onerack.mapreduce import run


def lengths(key, line):
    for word in line.split():
        yield word[0].lower(), len(word)


def mean_lengths(inputs, output):
    """Mean length of words by their first letter, as a dict."""
    result = run(map=lengths, reduce="mean", input=inputs, output=output)
    return dict(result.rows())


with tempfile.TemporaryDirectory() as folder:
    means = mean_lengths(sys.argv[1:] or [tempfile.__file__], f"{folder}/means")

for letter, mean in sorted(means.items(), key=lambda item: -item[1])[:10]:
    print(f"{letter}  {mean:6.2f}")
