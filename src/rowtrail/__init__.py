"""Rowtrail: incremental ELT with replay of single records."""
