"""MapReduce: plain Python `map` and `reduce` over more bytes than one process holds."""
