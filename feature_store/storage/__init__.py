"""Places that files lie in: local folders and S3 prefixes, read and written by the same code.

A place is a `Location`: a `pathlib.Path`, or an `S3Path` that offers the few of its methods that the store uses. What
the two do differently is in the `Storage` of a place, see `location.storage_of`: nobody else asks which of them it is.
What is written where, and what is in a file, is decided elsewhere.
"""
