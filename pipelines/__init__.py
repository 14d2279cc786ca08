"""The engine: from a source to a destination, with a checkpoint for every record."""
