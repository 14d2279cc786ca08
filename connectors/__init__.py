"""Connectors to databases: they know nothing of ledgers or runs."""
