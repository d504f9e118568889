"""Our side of each case: short programs a user could have written, run in a fresh process like the peers'."""
