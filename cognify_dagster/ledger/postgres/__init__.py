"""The ledger in a Postgres schema: `store` is its interface, the other modules build and keep that schema."""
