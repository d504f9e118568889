"""Polars, lazy and streaming. `wordcount-regex` and `wordcount-split` are two ways to say "words" in it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from benchmarks.peers.arguments import Task, main

BLANKS = r"[\t\x0b\x0c]"


def lines(path: Path) -> pl.LazyFrame:
    """One column `line`: the file's lines without any CSV reading of them."""
    return pl.scan_lines(path, name="line")


def count_words(words: pl.Expr, task: Task, *, ordered: bool = False) -> None:
    frame = lines(task.source).select(word=words).filter(pl.col("word") != "").group_by("word").len()
    write_pairs(frame.sort("word") if ordered else frame, task.target / "counts.tsv")


def split_at_blanks() -> pl.Expr:
    return pl.col("line").str.replace_all(BLANKS, " ").str.split(" ").explode()


def wordcount_regex(task: Task) -> None:
    count_words(pl.col("line").str.extract_all(r"[^\t\n\x0b\x0c\r ]+").explode(), task)


def wordcount_split(task: Task) -> None:
    count_words(split_at_blanks(), task)


def wordcount_sorted(task: Task) -> None:
    count_words(split_at_blanks(), task, ordered=True)


def invertedindex(task: Task) -> None:
    frame = (
        pl.scan_lines(task.source / "*.txt", name="line", include_file_paths="document")
        .select("document", word=pl.col("line").str.replace_all(BLANKS, " ").str.split(" "))
        .explode("word")
        .filter(pl.col("word") != "")
        .unique()
        .group_by("word")
        .agg(pl.col("document").sort().str.join(" "))
    )
    write_pairs(frame, task.target / "index.tsv")


def invertedindex_numbers(task: Task) -> None:
    """Documents as numbers while they are shuffled; their names are put in at the end."""
    paths = sorted(map(str, task.source.iterdir()))
    texts = pl.LazyFrame({"number": range(len(paths)), "text": [Path(path).read_text() for path in paths]})
    names = pl.element().replace_strict(range(len(paths)), paths)
    frame = (
        texts.select(
            pl.col("number").cast(pl.UInt32),
            word=pl.col("text").str.replace_all(r"[\t\n\x0b\x0c]", " ").str.split(" ").list.unique(),
        )
        .explode("word")
        .filter(pl.col("word") != "")
        .group_by("word")
        .agg(pl.col("number").sort())
        .select("word", pl.col("number").list.eval(names).list.join(" "))
    )
    write_pairs(frame, task.target / "index.tsv")


def grep(task: Task) -> None:
    found = lines(task.source).filter(pl.col("line").str.contains(task.pattern))
    found.sink_csv(task.target / "lines.txt", include_header=False, separator="\x01", quote_style="never")


def terasort(task: Task) -> None:
    ordered = lines(task.source).sort(pl.col("line").str.head(10))
    ordered.sink_csv(task.target / "sorted.txt", include_header=False, separator="\x01", quote_style="never")


def terasort_whole(task: Task) -> None:
    """The line itself as key: equal order here, since all keys are distinct, and no column has to be cut out."""
    ordered = lines(task.source).sort("line")
    ordered.sink_csv(task.target / "sorted.txt", include_header=False, separator="\x01", quote_style="never")


def write_pairs(frame: pl.LazyFrame, path: Path) -> None:
    frame.sink_csv(path, include_header=False, separator="\t", quote_style="never", engine="streaming")


if __name__ == "__main__":
    main(
        {
            "wordcount-regex": wordcount_regex,
            "wordcount-split": wordcount_split,
            "wordcount-sorted": wordcount_sorted,
            "invertedindex": invertedindex,
            "invertedindex-numbers": invertedindex_numbers,
            "grep": grep,
            "terasort": terasort,
            "terasort-whole": terasort_whole,
        }
    )
