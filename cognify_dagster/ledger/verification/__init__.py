"""Everything that decides whether a stored ledger holds; `verify` is its entry."""
