"""Facts: what the ledger says about one model version, and the texts that people wrote for it."""
