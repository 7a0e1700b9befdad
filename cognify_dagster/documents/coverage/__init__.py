"""Coverage: what a framework asks, and the ledger entries that support each answer."""
