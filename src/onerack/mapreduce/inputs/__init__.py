"""Inputs: from names of files to records, in any process, with every record read exactly once.

    listing      which files do these names mean
    plan         which byte ranges of them make one split, and how many splits
    sources      bytes of a local file or of any fsspec URL; compression on top
    lines        where records of text end, in which encoding
    chunks       a byte range cut at record borders
    records      what a reader hands out: blocks of records, blocks of bytes
    split_reader, line_reader      what all formats share, and what those of lines share
    text, jsonl, csv_reader (csv_rows), fixed, whole, parquet, pairs      one format each
    reader       the door: open_split

The rule that holds the folder together: a record belongs to the split in which its first byte lies. So the records
of all splits, put one after another, are those of a sequential read, wherever the borders fall.

Source: Dean & Ghemawat, OSDI 2004, section 4.4 (input and output types).
"""
