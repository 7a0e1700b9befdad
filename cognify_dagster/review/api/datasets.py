"""Datasets and their snapshots."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.review.api.calls import ApiRoute
from cognify_dagster.review.api.models import LIST, READ, Called
from cognify_dagster.review.api.names import names_of
from cognify_dagster.review.api.paging import number_in
from cognify_dagster.review.api.parameters import Cursor, DatasetId, Limit
from cognify_dagster.review.api.schemas import DatasetOut, Page, SnapshotOut
from cognify_dagster.review.api.standing import clock
from cognify_dagster.review.errors import not_found
from cognify_dagster.workspace import Reading, Recorded

router = APIRouter(route_class=ApiRoute)


@router.get("/datasets", response_model=Page[DatasetOut], tags=["datasets"], **LIST)
def list_datasets(call: Called, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the datasets of which there are snapshots, by name."""
    about = {"list": "datasets"}
    names = names_of(call.site, call.reading)
    reading, place = call.begin(cursor, about)
    found = [name for name in names.datasets_in(reading) if place is None or name > place.at]
    items = [item for item in (_dataset(reading, name) for name in found[:limit]) if item is not None]
    more = call.next(reading, found[limit - 1], about) if len(found) > limit else None
    return call.answer(Page[DatasetOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})


@router.get("/datasets/{dataset}", response_model=DatasetOut, tags=["datasets"], **READ)
def get_dataset(call: Called, dataset: DatasetId) -> Response:
    """Return a dataset and its newest snapshot."""
    call.visit.subject = f"dataset/{dataset}"
    call.unchanged_since(call.reading, f"dataset/{dataset}")
    found = _dataset(call.reading, dataset)
    if found is None:
        raise not_found(f"The dataset {dataset}")
    return call.answer(found)


@router.get("/datasets/{dataset}/snapshots", response_model=Page[SnapshotOut], tags=["datasets"], **LIST)
def list_snapshots(call: Called, dataset: DatasetId, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the snapshots of a dataset, newest first."""
    call.visit.subject = f"dataset/{dataset}"
    about = {"list": "snapshots", "dataset": dataset}
    reading, place = call.begin(cursor, about)
    before = reading.size if place is None else number_in(place, reading.size)
    found = _snapshots(reading, dataset)
    if not found:
        raise not_found(f"The dataset {dataset}")
    left = [item for item in reversed(found) if item.seq < before]
    items = [_snapshot(item, call.personal) for item in left[:limit]]
    more = call.next(reading, left[limit - 1].seq, about) if len(left) > limit else None
    return call.answer(Page[SnapshotOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})


def _snapshots(reading: Reading, name: str) -> list[Recorded[DatasetSnapshot]]:
    return [item for item in reading.all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]


def _dataset(reading: Reading, name: str) -> DatasetOut | None:
    found = _snapshots(reading, name)
    if not found:
        return None
    newest = found[-1]
    return DatasetOut(
        name=name,
        snapshots=len(found),
        newest_entry=newest.seq,
        newest_time=clock(newest.time_us),
        root=newest.record.root,
        record_count=newest.record.record_count,
        total_bytes=newest.record.total_bytes,
    )


def _snapshot(item: Recorded[DatasetSnapshot], personal: bool) -> SnapshotOut:
    record = item.record
    return SnapshotOut(
        name=record.name,
        entry=item.seq,
        time=clock(item.time_us),
        root=record.root,
        parent_root=record.parent_root,
        data_version=record.data_version,
        file_count=record.file_count,
        total_bytes=record.total_bytes,
        record_count=record.record_count,
        change_reason=record.change_reason,
        missing_provenance=list(record.missing_provenance),
        failed_quality=[check.name for check in record.failed_quality],
        provenance=dict(record.provenance) if personal else None,
    )
