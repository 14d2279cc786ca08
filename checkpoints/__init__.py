"""The ledger: what became of every record."""
