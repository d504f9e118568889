"""onerack: a datacenter in one Python package.

Public names live in the packages of the systems, e.g. `onerack.mapreduce.run`; this file holds only the
version. Nothing heavy is imported here, so that `import onerack` costs nothing.
"""

__version__ = "0.1.0"
