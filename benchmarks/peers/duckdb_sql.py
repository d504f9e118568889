"""DuckDB: one SQL statement per case. Two ways to say "words": `wordcount-split` and `wordcount-regex`."""

from __future__ import annotations

import duckdb

from benchmarks.peers.arguments import Task, main

# A separator, quote and escape that do not occur, so that a CSV row is a line.
AS_LINES = "delim = '\x01', quote = '', escape = '', header = false, auto_detect = false, columns = {'line': 'VARCHAR'}"
AS_PAIRS = "delim '\t', quote '', escape '', header false"
AS_TEXT = "delim '\x03', quote '', escape '', header false"
BLANKS = "chr(9) || chr(10) || chr(11) || chr(12)"
SPLIT = f"unnest(string_split(translate(line, {BLANKS}, '    '), ' '))"
REGEX = "unnest(regexp_extract_all(line, '[^\\t\\n\\x0b\\x0c\\r ]+'))"


def execute(task: Task, statement: str) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"SET threads = {task.workers}")
        connection.execute(f"SET temp_directory = '{task.target}/.temporary'")
        # Order of lines matters to nobody here, except where a statement says ORDER BY.
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(statement)


def lines(task: Task) -> str:
    return f"read_csv('{task.source}', {AS_LINES})"


def count_words(task: Task, words: str, order: str = "") -> None:
    execute(
        task,
        f"COPY (SELECT word, count(*) FROM (SELECT {words} AS word FROM {lines(task)}) "
        f"WHERE word <> '' GROUP BY word {order}) TO '{task.target}/counts.tsv' ({AS_PAIRS})",
    )


def wordcount_split(task: Task) -> None:
    count_words(task, SPLIT)


def wordcount_regex(task: Task) -> None:
    count_words(task, REGEX)


def wordcount_sorted(task: Task) -> None:
    count_words(task, SPLIT, "ORDER BY word")


def invertedindex(task: Task) -> None:
    words = f"unnest(list_distinct(string_split(translate(content, {BLANKS}, '    '), ' ')))"
    execute(
        task,
        f"COPY (SELECT word, string_agg(filename, ' ' ORDER BY filename) "
        f"FROM (SELECT filename, {words} AS word FROM read_text('{task.source}/*.txt')) "
        f"WHERE word <> '' GROUP BY word) TO '{task.target}/index.tsv' ({AS_PAIRS})",
    )


def invertedindex_list(task: Task) -> None:
    """The same with a sorted list instead of an ordered aggregate."""
    words = f"unnest(list_distinct(string_split(translate(content, {BLANKS}, '    '), ' ')))"
    execute(
        task,
        f"COPY (SELECT word, array_to_string(list_sort(list(filename)), ' ') "
        f"FROM (SELECT filename, {words} AS word FROM read_text('{task.source}/*.txt')) "
        f"WHERE word <> '' GROUP BY word) TO '{task.target}/index.tsv' ({AS_PAIRS})",
    )


def grep(task: Task) -> None:
    pattern = task.pattern.replace("'", "''")
    execute(
        task,
        f"COPY (SELECT line FROM {lines(task)} WHERE regexp_matches(line, '{pattern}')) "
        f"TO '{task.target}/lines.txt' ({AS_TEXT})",
    )


def terasort(task: Task) -> None:
    execute(
        task,
        f"COPY (SELECT line FROM {lines(task)} ORDER BY line[1:10]) TO '{task.target}/sorted.txt' ({AS_TEXT})",
    )


def terasort_whole(task: Task) -> None:
    """The line itself as key: equal order here, since all keys are distinct."""
    execute(task, f"COPY (SELECT line FROM {lines(task)} ORDER BY line) TO '{task.target}/sorted.txt' ({AS_TEXT})")


if __name__ == "__main__":
    main(
        {
            "wordcount-split": wordcount_split,
            "wordcount-regex": wordcount_regex,
            "wordcount-sorted": wordcount_sorted,
            "invertedindex": invertedindex,
            "invertedindex-list": invertedindex_list,
            "grep": grep,
            "terasort": terasort,
            "terasort-whole": terasort_whole,
        }
    )
