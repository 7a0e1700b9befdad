"""The policy as a document: read, checked, explained, adopted."""
