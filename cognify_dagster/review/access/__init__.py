"""The access log: who viewed, downloaded, signed in or was refused; anchored in the ledger in batches."""
