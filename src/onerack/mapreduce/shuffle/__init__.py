"""The shuffle: what map tasks leave for reduce tasks, and how it comes together again.

    format      the shuffle file: sections, extents, footer, checksums
    arrays      slices, orders and sizes of Arrow columns
    collector   the map side: fold or sort, partition, spill, write
    counting    the map side where counting is all there is to do
    tables      the map side's fold of Python pairs
    fold        a fold of columns by key, on both sides
    groups      the reduce side for functions: keys in order, values as streams
    merge       the reduce side's entry: `fold_partition` and `group_partition`

The idea: an associative builtin reducer needs no sorted runs, only a hash table and one sort of distinct keys at the
very end; everything else meets in sorted runs that are cut at key borders, joined and sorted natively. The rule:
the result depends on the order of map tasks and emissions alone, never on memory, spills, processes or kernels.
"""
