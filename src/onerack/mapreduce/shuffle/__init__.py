"""The shuffle: what map tasks leave for reduce tasks, and how it comes together again.

    format      the shuffle file: sections, extents, footer, checksums
    arrays      slices, orders and sizes of Arrow columns

    map_side    what every collector is: one attempt, one file; rows spread over partitions
    collector   whatever the user's map emits: `tables` (over `counting` and `fold`) where a builtin folds, else
                `buffer`, with `placing` and `combining` where the user has a say
    folded, postings, rows
                what builtin jobs have already: states of distinct keys, postings, records of one size

    merge       the reduce side's entry: `fold_partition` and `group_partition`
    fold, gather    for builtin reducers: one state for each key, or all its values
    runs, windows, groups
                for functions: sorted runs, cut at key borders, as a stream of values for each key

The idea: an associative builtin reducer needs no sorted runs, only a hash table and one sort of distinct keys at the
very end; everything else meets in sorted runs that are cut at key borders, joined and sorted natively. The rule:
the result depends on the order of map tasks and emissions alone, never on memory, spills, processes or kernels.
"""
