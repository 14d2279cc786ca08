"""Every type of a database, end to end: what each value is at each destination."""
