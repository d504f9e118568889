"""PageRank as a chain of jobs: which modules of the standard library do the others lean on?

    onerack run examples/page_rank.py:Links --out ranks

A link is an import. `Links` reads the files and writes (module, (rank, imported modules)); each `Round` hands the
rank of a module on to those it imports; `Best` keeps the highest. `then` strings the stages together: each reads the
pairs that the one before it wrote, and only the last one's output is kept.
"""

import ast
import os

from onerack.mapreduce import Job, count

DAMPING = 0.85


class Round(Job):
    """One round of PageRank. Section 2.1 of Page, Brin, Motwani, Winograd 1999."""

    def map(self, module, value):
        rank, links = value
        yield module, links  # the graph itself goes on to the next round
        for link in links:
            yield link, rank / len(links)

    def reduce(self, module, values):
        rank, links = 1 - DAMPING, []
        for value in values:
            if isinstance(value, list):
                links = value
            else:
                rank += DAMPING * value
        yield module, (rank, links)


class Best(Job):
    """The ten modules with the highest rank. One key, so one partition sees them all."""

    reducers = 1
    reduce = "topk:10"

    def map(self, module, value):
        rank, _ = value
        yield "best", (round(rank, 3), module)


class Links(Job):
    """The graph: one record is one file."""

    input = os.path.dirname(os.__file__) + "/*.py"
    input_format = "file"
    errors = "replace"
    then = (Round, Round, Round, Round, Round, Best)

    def map(self, path, text):
        try:
            tree = ast.parse(text)
        except SyntaxError:
            count("files that are not Python 3")
            return
        links = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                links.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                links.add(node.module.split(".")[0])
        yield os.path.basename(path).removesuffix(".py"), (1.0, sorted(links))

    reduce = "first"
