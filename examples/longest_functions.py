"""Secondary sort: the values of each key arrive in an order of your choice.

    onerack run examples/longest_functions.py --out longest

`sort_key` orders the values of one key, so `reduce` can take the first three and leave the rest unread: nothing is
held in memory, however many values a key has.
"""

import ast
import itertools
import os

from onerack.mapreduce import Job


class LongestFunctions(Job):
    """The three longest functions of each file."""

    input = os.path.dirname(os.__file__) + "/*.py"
    input_format = "file"
    on_error = "skip:100"  # files that are not Python 3
    output_format = "jsonl"

    def map(self, path, text):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield os.path.basename(path), (node.end_lineno - node.lineno + 1, node.name)

    def sort_key(self, path, value):
        lines, name = value
        return (-lines, name)

    def reduce(self, path, values):
        return list(itertools.islice(values, 3))
