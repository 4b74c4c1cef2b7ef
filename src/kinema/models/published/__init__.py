"""Networks that others have trained: the catalog of their files, fetching, and conversion."""
