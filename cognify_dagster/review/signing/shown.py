"""What the site displayed to whom, so that a statement says "displayed" only of what was.

`note_shown(visit, digest, media_type)`: a page that displays a package, or a download that hands its bytes out, calls it with the
digest of the stored bytes. The statement that is prepared later names the one of the version's documents that was displayed last.
"""

from __future__ import annotations

from sqlalchemy.exc import IntegrityError

from cognify_dagster.governance.signing.statements import Viewed
from cognify_dagster.records import Package
from cognify_dagster.review.store.pending import keep_shown, last_shown
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Recorded


def note_shown(visit: Visit, digest: str, media_type: str = "application/json") -> None:
    """Note that a document was displayed to the signed-in person; nothing for auditors, who sign nothing."""
    if visit.user is None or visit.user.person is None:
        return
    try:
        with visit.site.store.begin() as connection:
            keep_shown(connection, visit.user.account.id, digest, media_type, int(visit.now.timestamp() * 1_000_000))
    except IntegrityError:  # the same person opened it twice at this moment: it is noted
        return


def viewed(visit: Visit, package: Recorded[Package]) -> tuple[Viewed, int] | None:
    """Return which document of a package was displayed to the visitor last, and when (microseconds); None if none was."""
    record = package.record
    items = [record.package, *([record.review_copy] if record.review_copy else [])]
    if visit.user is None:
        return None
    with visit.site.store.begin() as connection:
        found = last_shown(connection, visit.user.account.id, [item.digest for item in items])
    if found is None:
        return None
    return Viewed(digest=found[0], media_type=found[1]), found[2]
