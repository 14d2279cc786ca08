"""Ways to find what changed, shared by sources."""
