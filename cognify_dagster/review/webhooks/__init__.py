"""Webhooks: tells other systems what happened in the ledger.

Invariants: an entry is told once to each endpoint, under an id that follows from the entry, so that a repeated delivery can be
recognised; a delivery is signed; nothing is sent to an address inside the network unless whoever added the endpoint allowed it;
payloads hold ids, digests and links, nobody's text and, unless asked for, nobody's identity.
"""
