"""Hypothesis strategies for JSON values and entries."""

from __future__ import annotations

from hypothesis import strategies as st

from cognify_dagster.ledger.canonical import MAX_SAFE_INTEGER

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
numbers = st.one_of(st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER), st.floats(allow_nan=False, allow_infinity=False))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(texts, inner, max_size=5)),
    max_leaves=20,
)
