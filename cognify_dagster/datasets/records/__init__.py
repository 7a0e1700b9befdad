"""Records: tables, the canonical bytes of their cells, record digests and the record root."""
