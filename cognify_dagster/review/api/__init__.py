"""The REST API under /api/v1: what other systems read, and the one thing they may write (decisions made elsewhere).

Invariants: every route names the scope it needs and is refused to tokens without it; no route leads to a signature: a token is a
machine's, and machines do not sign; names of people are given only to tokens that may read personal data.
"""
