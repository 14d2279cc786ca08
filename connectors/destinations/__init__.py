"""Destinations, a file for each database."""
