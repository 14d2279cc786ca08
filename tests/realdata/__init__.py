"""PROJ's database, changed at random, copied, and compared value by value."""
