"""The programs that Rowtrail is compared with, each run in a virtual environment of its own."""
