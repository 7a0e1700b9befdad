"""Who visits: people of the ledger, auditors with a grant, nobody."""
