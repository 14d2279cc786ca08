"""A small shop: a generated database, a second day of changes, and the pipeline that copies it."""
