"""The review site and the REST API: where people read packages and sign, and where other systems ask.

Its own process (`cognify review`), its own port, cookies and database; it knows nothing of Dagster. What counts is in the ledger;
the site's database holds only what may be lost: credentials, sessions, queues. Invariants of the room: every route says who may see
it and is refused to everybody else; whoever signs authenticates anew; a sign-off goes through `governance.signing.signoff` alone.
"""
