"""The ledger in one SQLite file: `store` is its interface, the other modules are its parts."""
