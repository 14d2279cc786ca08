"""Deliberate bugs, and a script that shows that the tests catch each: `make mutations`."""
