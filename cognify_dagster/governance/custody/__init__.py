"""Keeping, holding, erasing and archiving records, and the ledger's own keys."""
