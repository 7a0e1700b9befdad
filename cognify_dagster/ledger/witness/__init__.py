"""A witness (C2SP tlog-witness) and the client that collects cosignatures.

A witness remembers the newest head of each log it knows and cosigns a newer one only with a proof that it contains the old
one. It is worth something only where those who can write the ledger cannot write the witness's key and state.
"""

from cognify_dagster.ledger.witness.client import Collected, Finding, Remote, Verdict, collect, fetch_head, remotes
from cognify_dagster.ledger.witness.decide import Head, Refusal, decide
from cognify_dagster.ledger.witness.keyfile import WitnessKey
from cognify_dagster.ledger.witness.request import AddCheckpoint
from cognify_dagster.ledger.witness.server import WitnessServer, serve
from cognify_dagster.ledger.witness.state import WitnessStore
from cognify_dagster.ledger.witness.witness import Response, Witness

__all__ = [
    "AddCheckpoint",
    "Collected",
    "Finding",
    "Head",
    "Refusal",
    "Remote",
    "Response",
    "Verdict",
    "Witness",
    "WitnessKey",
    "WitnessServer",
    "WitnessStore",
    "collect",
    "decide",
    "fetch_head",
    "remotes",
    "serve",
]
