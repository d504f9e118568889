"""Outputs: from pairs to files that appear all at once.

    tsv, jsonl, parquet, pairs   one format each: pairs or columns into bytes
    sink                         bytes into a file: buffered, compressed, checksummed, a full disk named
    writer                       the door for attempts: open_part
    destination                  the door for clients: open_destination
    quarantine                   the bad records of a job, beside its output

The rule that holds the folder together: an attempt writes under a name of its own in the staging directory, which
nobody takes for output; final names appear only when the whole job is done, by renaming.

Source: Dean & Ghemawat, OSDI 2004, section 3.3 (atomic commits).
"""
