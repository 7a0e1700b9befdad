"""Parameters that several routes take, with the form they must have."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query

ModelId = Annotated[
    str, Path(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$", description="model key", examples=["credit_default"])
]
VersionId = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}$", description="model version", examples=["1"])
]
DatasetId = Annotated[
    str,
    Path(
        pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,99}(@[A-Za-z0-9_.+-]{1,60})?$", description="dataset, or dataset@partition"
    ),
]
EntryId = Annotated[int, Path(ge=0, le=2**53 - 1, description="number of an entry, from 0")]
Target = Annotated[str, Query(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,29}$", description="deployment target")]
Cursor = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z0-9_-]{1,600}$",
        description="`next_cursor` of the page before; all pages show the same entries",
    ),
]
Limit = Annotated[int, Query(ge=1, le=200, description="how many items a page has at most")]
SubjectFilter = Annotated[
    str | None, Query(pattern=r"^[a-z][a-z0-9_]{0,39}(/[A-Za-z0-9_.+-]{1,120}(@[A-Za-z0-9_.+-]{1,60})?)?$")
]
