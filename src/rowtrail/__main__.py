"""`python -m rowtrail` is the command line."""

from rowtrail.cli import main

main()
