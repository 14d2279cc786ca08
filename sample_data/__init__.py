"""A small shop database, generated, with two days of changes."""
