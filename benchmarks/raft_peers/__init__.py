"""What we compare the replicated store with, and the load that is put on all of them alike.

The rule: one load generator for all, over the API that all speak (etcd v3, gRPC), so lean that it is not what is
measured.
"""
