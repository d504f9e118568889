"""The runtime: the one seam between pure protocol cores and the world, and what stands on its far side."""
