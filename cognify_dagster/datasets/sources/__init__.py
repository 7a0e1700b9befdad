"""Where a dataset's bytes are: local files and folders, fsspec addresses, tables in memory."""
