"""Sources, a file for each database."""
