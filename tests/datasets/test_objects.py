"""Datasets on a real S3 server: the same roots as on disk, the version that was listed is the one that is read, and what stores do
wrong ends in an error that names the object and never a credential."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import threading
from collections.abc import Iterator
from typing import Any

import botocore.session
import pytest

from cognify_dagster.datasets import SourceChangedError, SourceError, take_snapshot
from cognify_dagster.datasets.sources import objects, objects_listing, objects_reading
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.objects_errors import classify
from cognify_dagster.datasets.sources.objects_listing import parse_page
from cognify_dagster.datasets.sources.opening import open_source
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.tree import CHUNK_SIZE, content_digest
from tests.datasets.s3_proxy import Answer, Proxy, Request, proxied, refusal
from tests.ledger.anchor_servers import S3_KEY, S3_SECRET

pytestmark = pytest.mark.xdist_group("s3")
NO_RULES = IgnoreRules(())
_number = itertools.count()
CONTENT = {
    "a.bin": b"alpha",
    "b/c.bin": bytes(300_000),
    "b/d/zoë 1+2%41#?&<x>~*'()!.txt": b"name",
    "b/empty": b"",
    "emoji-\U0001f600": b"emoji",
    "line\nbreak": b"control",
    "big.bin": os.urandom(2 * CHUNK_SIZE + 5),
}


@pytest.fixture(scope="module")
def admin(s3_endpoint: str) -> Any:
    return botocore.session.Session().create_client(
        "s3",
        endpoint_url=s3_endpoint,
        region_name="us-east-1",
        aws_access_key_id=S3_KEY,
        aws_secret_access_key=S3_SECRET,
    )


@pytest.fixture(scope="module")
def proxy(s3_endpoint: str) -> Any:
    with proxied(s3_endpoint) as made:
        yield made


@pytest.fixture(params=["obstore", "s3fs"])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to read; with s3fs, obstore counts as not installed."""
    if request.param == "s3fs":
        monkeypatch.setattr(objects.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(objects_reading, "BACKOFF_S", 0.01)
    return str(request.param)


def emptied(admin: Any, name: str) -> None:
    listed = admin.list_object_versions(Bucket=name)
    for item in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
        admin.delete_object(Bucket=name, Key=item["Key"], VersionId=item["VersionId"])


@pytest.fixture(scope="module")
def buckets(admin: Any) -> tuple[str, str]:
    for name in ("data-plain", "data-versions"):
        admin.create_bucket(Bucket=name)
    admin.put_bucket_versioning(Bucket="data-versions", VersioningConfiguration={"Status": "Enabled"})
    return "data-plain", "data-versions"


@pytest.fixture
def bucket(admin: Any, buckets: tuple[str, str]) -> Iterator[str]:
    """An empty bucket without versions."""
    yield buckets[0]
    emptied(admin, buckets[0])


@pytest.fixture
def versioned(admin: Any, buckets: tuple[str, str]) -> Iterator[str]:
    """An empty bucket with versions."""
    yield buckets[1]
    emptied(admin, buckets[1])


@pytest.fixture
def fresh(admin: Any) -> Iterator[str]:
    """A bucket of its own, for tests that turn versions on."""
    name = f"data-{next(_number)}"
    admin.create_bucket(Bucket=name)
    yield name
    emptied(admin, name)
    admin.delete_bucket(Bucket=name)


@pytest.fixture
def options(proxy: Proxy) -> dict[str, Any]:
    proxy.seen.clear()
    proxy.before, proxy.after = lambda _: None, lambda _, answer: answer
    return {
        "key": S3_KEY,
        "secret": S3_SECRET,
        "endpoint_url": proxy.endpoint,
        "client_kwargs": {"region_name": "us-east-1"},
        "config_kwargs": {"retries": {"total_max_attempts": 2}, "connect_timeout": 2, "read_timeout": 5},
    }


def put(admin: Any, bucket: str, content: dict[str, bytes], prefix: str = "p/") -> None:
    for name, data in content.items():
        admin.put_object(Bucket=bucket, Key=prefix + name, Body=data)


def opened(bucket: str, options: dict[str, Any], prefix: str = "/p") -> RemoteSource:
    source = open_source(f"s3://{bucket}{prefix}", options)
    assert isinstance(source, RemoteSource)
    return source


def hashed(source: RemoteSource) -> dict[bytes, Any]:
    found, _ = source.entries(NO_RULES)
    leaves = dict(source.hash_many(found))
    assert sorted(leaves) == list(range(len(found)))
    return {found[index].path: leaf for index, leaf in leaves.items()}


def refused(work: Any, match: str, kind: type[Exception] = SourceError) -> str:
    """The message of an error that shows no credential, in its chain neither."""
    with pytest.raises(kind, match=match) as caught:
        work()
    shown: BaseException | None = caught.value
    while shown is not None:
        assert not re.search(f"{S3_SECRET}|{S3_KEY}|Signature=|said the server|StringToSign", str(shown)), shown
        shown = None if shown.__suppress_context__ else shown.__context__
    return str(caught.value)


def running() -> int:
    """Threads that read objects."""
    return sum(thread.name == "cognify-objects" for thread in threading.enumerate())


def keys(bucket: str, name: str) -> Any:
    """Whether a request is for the object itself."""
    return lambda request: request.method == "GET" and request.path == f"/{bucket}/p/{name}"


# --- the same data --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("versions", [0, 1])
def test_the_same_data_on_disk_and_on_s3_has_the_same_root(
    tmp_path, admin, buckets, bucket, versioned, options, proxy, way, versions, provenance
):
    bucket = buckets[versions]
    put(admin, bucket, CONTENT)
    put(admin, bucket, {"other": b"beside"}, prefix="p2/")
    for path, data in CONTENT.items():
        target = tmp_path / "d" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    on_disk = take_snapshot(tmp_path / "d", name="d", provenance=provenance)
    on_s3 = take_snapshot(f"s3://{bucket}/p", name="d", provenance=provenance, storage_options=options)
    assert on_s3.root == on_disk.root
    assert on_s3.files == on_disk.files
    source = opened(bucket, options)
    assert bool([note for note in source.notes if "slower" in note]) is False
    leaves = hashed(source)
    for path, data in CONTENT.items():
        leaf = leaves[path.encode()]
        assert (leaf.size, leaf.algorithm, leaf.digest) == (len(data), *content_digest(data))
    assert any("s3fs, which is slower" in note for note in source.notes) is (way == "s3fs"), source.notes
    assert proxy.count("HEAD", "/p/a.bin") == 0, "one request an object"
    ranges = [
        {k.lower(): v for k, v in r.headers.items()}["range"]
        for r in proxy.seen
        if r.path.endswith("/big.bin") and r.method == "GET"
    ]
    assert len(set(ranges)) == 3, "a large object is read in ranges, the chunks of its digest"


def test_a_whole_bucket_one_object_and_a_prefix_with_slash(admin, bucket, options):
    put(admin, bucket, {"x/y": b"2", "one.bin": b"3"}, prefix="")
    assert set(hashed(opened(bucket, options, ""))) == {b"x/y", b"one.bin"}
    assert set(hashed(opened(bucket, options, "/x/"))) == {b"y"}
    single = opened(bucket, options, "/one.bin")
    assert single.is_file
    (found,), ignored = single.entries(NO_RULES)
    assert (found.path, found.size, ignored) == (b"one.bin", 1, 0)
    assert single.hash(found).digest == hashlib.sha256(b"3").digest()
    refused(lambda: opened(bucket, options, "/one.bin/"), "does not exist")
    refused(lambda: opened(bucket, options, "/nothing"), "does not exist")


def test_keys_that_end_in_a_slash_are_folders_and_have_no_leaf(admin, bucket, options):
    put(admin, bucket, {"dir/": b"", "dir/x": b"1", "other/": b""})
    assert set(hashed(opened(bucket, options))) == {b"dir/x"}


@pytest.mark.parametrize("key", ["p/../q", "p//x", "p/./x", "p/x//y"])
def test_keys_without_a_canonical_path_are_refused_by_name(admin, bucket, options, proxy, key):
    put(admin, bucket, {"x": b"1"})
    proxy.after = lambda request, answer: (
        Answer(answer.status, answer.body.replace(b"<Key>p/x</Key>", f"<Key>{key}</Key>".encode()), answer.headers)
        if "list-type" in request.query
        else answer
    )
    refused(lambda: opened(bucket, options).entries(NO_RULES), "has an empty, '.' or '..' part")
    proxy.after = lambda request, answer: Answer(
        answer.status, answer.body.replace(b"<Key>p/x</Key>", b"<Key>elsewhere/x</Key>"), answer.headers
    )
    refused(lambda: opened(bucket, options).entries(NO_RULES), "lies outside")


@pytest.mark.parametrize("alone", [2, 100])
def test_a_listing_of_many_pages_is_whole(admin, fresh, options, proxy, monkeypatch, alone):
    names = {f"d{i % 3}/{'ab'[i % 2]}/{i:03d}" for i in range(70)} | {"top"}
    put(admin, fresh, dict.fromkeys(names, b"x"))
    source = opened(fresh, options)
    monkeypatch.setattr(objects_listing, "_PAGES_ALONE", alone)
    real = source._store._lister._raw
    monkeypatch.setattr(source._store._lister, "_raw", lambda *a, **more: real(*a, **{"MaxKeys": 10, **more}))
    assert {item.path.decode() for item in source.entries(NO_RULES)[0]} == names
    tokens = [r.query for r in proxy.seen if "continuation-token" in r.query]
    assert len(tokens) == len(set(tokens)) >= 2, "no page was asked for twice"
    admin.put_bucket_versioning(Bucket=fresh, VersioningConfiguration={"Status": "Enabled"})
    put(admin, fresh, dict.fromkeys(sorted(names)[:25], b"new"))
    put(admin, fresh, dict.fromkeys(sorted(names)[:25], b"newer"))
    admin.delete_object(Bucket=fresh, Key=f"p/{sorted(names)[3]}")
    found, _ = source.entries(NO_RULES)
    assert {item.path.decode() for item in found} == names - {sorted(names)[3]}
    assert sum(item.size == 5 for item in found) == 24
    assert sum(item.grade == "version" for item in found) == 24


# --- tokens ----------------------------------------------------------------------------------------------------------------


def test_a_token_stays_for_unchanged_and_changes_for_replaced_objects(admin, fresh, options, proxy):
    put(admin, fresh, {"a": b"one", "b": b"two", "c": b"three"})

    def tokens() -> dict[bytes, tuple[bytes, str]]:
        return {f.path: (f.token, f.grade) for f in opened(fresh, options).entries(NO_RULES)[0]}

    before = tokens()
    assert {grade for _, grade in before.values()} == {"etag"}
    proxy.seen.clear()
    assert tokens() == before
    assert not any(proxy.count("GET", f"/p/{name}?") for name in "abc"), "nothing but the listing was asked for"
    put(admin, fresh, {"a": b"ONE"})
    after = tokens()
    assert [path for path in before if before[path] != after[path]] == [b"a"]
    admin.put_bucket_versioning(Bucket=fresh, VersioningConfiguration={"Status": "Enabled"})
    put(admin, fresh, {"b": b"two"})
    graded = tokens()
    assert {path: grade for path, (_, grade) in graded.items()} == {b"a": "etag", b"b": "version", b"c": "etag"}
    put(admin, fresh, {"b": b"two"})
    assert tokens()[b"b"] != graded[b"b"], "another version, though of the same bytes"
    assert all(len(token) == 32 for token, _ in graded.values())


def test_tokens_differ_for_other_places_fields_and_cuts_of_fields():
    made = [objects.Tokens(place).token("etag", "k", "e", 1, "t") for place in ("host/one", "host/two")]
    one = objects.Tokens("h")
    made += [
        one.token(*fields)
        for fields in (("etag", "k", "ab", 1, "c"), ("etag", "k", "a", 1, "bc"), ("etag", "kc", "a", 1, "b"))
    ]
    assert len(set(made)) == 5
    assert one.token("etag", "k", "a\0b", 1, "c") == b"", "what cannot be told apart identifies nothing"


def test_with_versions_what_was_listed_is_what_is_read(admin, versioned, options, way):
    put(admin, versioned, {"a": b"listed", "gone": b"still there"})
    source = opened(versioned, options)
    found, _ = source.entries(NO_RULES)
    put(admin, versioned, {"a": b"replaced"})
    admin.delete_object(Bucket=versioned, Key="p/gone")
    leaves = {found[i].path: leaf.digest for i, leaf in source.hash_many(found)}
    assert leaves == {b"a": hashlib.sha256(b"listed").digest(), b"gone": hashlib.sha256(b"still there").digest()}
    assert source.read(found[0], 100) == b"listed"
    assert [item.path for item in opened(versioned, options).entries(NO_RULES)[0]] == [b"a"]


def test_where_versions_may_not_be_listed_etags_serve_and_that_is_noted(admin, versioned, options, proxy):
    put(admin, versioned, {"a": b"x"})
    proxy.before = lambda request: refusal(403, "AccessDenied") if "versions" in request.query else None
    source = opened(versioned, options)
    (found,), _ = source.entries(NO_RULES)
    assert (found.grade, found.version_id) == ("etag", "")
    assert any("ListBucketVersions" in note for note in source.notes)
    proxy.before = lambda request: refusal(403, "AccessDenied") if "versioning" in request.query else None
    assert opened(versioned, options).entries(NO_RULES)[0][0].grade == "version", (
        "it is enough to be allowed to list them"
    )


# --- what goes wrong --------------------------------------------------------------------------------------------------------


def test_an_object_replaced_after_the_listing_is_an_error_that_names_it(admin, bucket, options, way):
    put(admin, bucket, {"a": b"same size 1", "b": b"x"})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    put(admin, bucket, {"a": b"same size 2"})
    refused(lambda: list(source.hash_many(found)), "object a .* was replaced", SourceChangedError)
    refused(lambda: source.read(found[0], 100), "object a .* was replaced", SourceChangedError)


def test_an_object_replaced_between_two_of_its_ranges_is_an_error(admin, bucket, options, proxy, way):
    put(admin, bucket, {"big.bin": bytes(3 * CHUNK_SIZE)})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    first = threading.Lock()

    def replace(request: Request) -> Answer | None:
        if keys(bucket, "big.bin")(request) and first.acquire(blocking=False):
            return None
        if keys(bucket, "big.bin")(request):
            put(admin, bucket, {"big.bin": b"1" * (3 * CHUNK_SIZE)})
        return None

    proxy.before = replace
    refused(lambda: list(source.hash_many(found)), r"object big\.bin .* was replaced", SourceChangedError)


def test_a_store_that_ignores_conditions_is_caught_by_its_own_answer(admin, bucket, options, proxy, way):
    put(admin, bucket, {"a": b"same size 1"})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    put(admin, bucket, {"a": b"same size 2"})
    answer = Answer(200, b"same size 2", {"ETag": '"another"', "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"})
    proxy.before = lambda request: answer if keys(bucket, "a")(request) else None
    refused(lambda: list(source.hash_many(found)), "object a .* was replaced", SourceChangedError)
    longer = Answer(
        200, b"same size 1 and more", {"Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT", "ETag": f'"{found[0].etag}"'}
    )
    proxy.before = lambda request: longer if keys(bucket, "a")(request) else None
    refused(lambda: list(source.hash_many(found)), "object a .* was replaced", SourceChangedError)


def test_an_object_that_vanished_is_an_error_that_names_it(admin, bucket, options, way):
    put(admin, bucket, {"a": b"1", "b": b"2"})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    admin.delete_object(Bucket=bucket, Key="p/b")
    refused(lambda: list(source.hash_many(found)), "object b .* (vanished|removed) after", SourceChangedError)


def test_denied_objects_and_listings_are_named(admin, bucket, options, proxy, way):
    put(admin, bucket, {"a": b"1", "secret": b"2"})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    proxy.before = lambda request: refusal(403, "AccessDenied") if keys(bucket, "secret")(request) else None
    refused(lambda: list(source.hash_many(found)), "object secret .*access is denied.*AccessDenied, HTTP 403")
    assert proxy.count("GET", "/p/secret") == 1, "what is denied is not asked for again"
    proxy.before = lambda request: refusal(403, "AccessDenied")
    refused(lambda: opened(bucket, options), "access is denied")


def test_archived_objects_are_named(admin, bucket, options, proxy, way):
    put(admin, bucket, {"cold": b"1"})
    proxy.before = lambda r: refusal(403, "InvalidObjectState") if keys(bucket, "cold")(r) else None
    refused(lambda: hashed(opened(bucket, options)), "object cold .* is archived; restore it")


def test_a_throttled_store_is_asked_again_and_then_given_up(admin, bucket, options, proxy, way, monkeypatch):
    put(admin, bucket, {f"o{i}": b"%d" % i for i in range(40)})
    turns = itertools.count()

    def sometimes(request: Request) -> Answer | None:
        busy = "/p/o" in request.path and next(turns) % 3 == 0
        return refusal(503, "SlowDown") if busy else None

    options["config_kwargs"]["retries"] = {"total_max_attempts": 8}
    monkeypatch.setattr("botocore.retryhandler.delay_exponential", lambda **_: 0.01)
    proxy.before = sometimes
    assert len(hashed(opened(bucket, options))) == 40
    options["config_kwargs"]["retries"] = {"total_max_attempts": 1}
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    proxy.before = lambda request: refusal(503, "SlowDown") if "/p/o1" in request.path else None
    refused(lambda: list(source.hash_many(found)), r"object o1\d? .*fewer requests.*SlowDown, HTTP 503")
    assert running() == 0, "all threads have ended"
    proxy.before = lambda request: refusal(503, "SlowDown")
    refused(lambda: opened(bucket, options), "fewer requests")


def test_an_answer_that_breaks_off_is_asked_for_again(admin, bucket, options, proxy, way):
    put(admin, bucket, {"a": b"x" * 100_000, "big.bin": b"y" * (CHUNK_SIZE + 1)})
    left = [2, 2]

    def cut(request: Request, answer: Answer) -> Answer:
        for i, name in enumerate(("a", "big.bin")):
            if keys(bucket, name)(request) and left[i]:
                left[i] -= 1
                answer.headers["Content-Length"] = str(len(answer.body))
                answer.cut = len(answer.body) // 2
        return answer

    proxy.after = cut
    leaves = hashed(opened(bucket, options))
    assert leaves[b"a"].digest == hashlib.sha256(b"x" * 100_000).digest()
    assert leaves[b"big.bin"].digest == content_digest(b"y" * (CHUNK_SIZE + 1))[1]
    assert left == [0, 0]


def test_wrong_bucket_wrong_credentials_no_credentials_and_no_server(admin, bucket, options, monkeypatch, tmp_path):
    refused(lambda: opened("no-such-bucket", options), "bucket does not exist")
    refused(lambda: opened(bucket, {**options, "secret": "wrong"}), "credentials are not accepted")
    refused(lambda: opened(bucket, {**options, "key": "nobody"}), "credentials are not accepted")
    refused(lambda: opened(bucket, {**options, "key": None, "secret": None, "anon": True}), "access is denied")
    refused(lambda: opened(bucket, {**options, "endpoint_url": "http://127.0.0.1:9"}), "cannot be reached")
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    refused(lambda: opened(bucket, {**options, "key": None, "secret": None}), "no usable credentials were found")


def test_a_listing_that_is_none_is_an_error(bucket, options, proxy):
    proxy.before = lambda request: Answer(200, b"<html>hello</html>") if "list-type" in request.query else None
    refused(lambda: opened(bucket, options), "S3 store|cannot be")
    with pytest.raises(ValueError, match="not where"):
        parse_page(b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>")


@pytest.mark.parametrize(
    ("code", "status", "kind", "retry"),
    [
        ("PermanentRedirect", 301, "region", False),
        ("AuthorizationHeaderMalformed", 400, "region", False),
        ("RequestTimeTooSkewed", 403, "clock", False),
        ("ExpiredToken", 400, "credentials", False),
        ("InternalError", 500, "server", True),
        ("SlowDown", 503, "throttled", True),
        ("404", 404, "missing", False),
        ("bad code with testsecret", 418, "other", False),
    ],
)
def test_errors_are_understood_by_code_or_status(code, status, kind, retry):
    from botocore.exceptions import ClientError

    answer = {"Error": {"Code": code, "Message": "testsecret"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    failure = classify(ClientError(answer, "GetObject"))
    assert (failure.kind, failure.retry) == (kind, retry)
    assert "testsecret" not in failure.detail + failure.advice


# --- settings ----------------------------------------------------------------------------------------------------------------


def test_credentials_of_a_profile_and_of_the_environment_are_used(admin, bucket, options, way, monkeypatch, tmp_path):
    put(admin, bucket, {"a": b"1"})
    (tmp_path / "credentials").write_text(
        f"[there]\naws_access_key_id = {S3_KEY}\naws_secret_access_key = {S3_SECRET}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    without = {name: value for name, value in options.items() if name not in ("key", "secret")}
    assert len(hashed(opened(bucket, {**without, "profile": "there"}))) == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", S3_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", without.pop("endpoint_url"))
    source = opened(bucket, without)
    assert len(hashed(source)) == 1
    assert [note for note in source.notes if way == "obstore"] == []


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ({"s3_additional_kwargs": {"ACL": "private"}}, "s3_additional_kwargs"),
        ({"config_kwargs": {"inject_host_prefix": False}}, "inject_host_prefix"),
        ({"session": "session"}, "listed through s3fs"),
    ],
)
def test_what_obstore_cannot_do_goes_through_s3fs_and_is_noted(admin, bucket, options, more, note):
    put(admin, bucket, {"a": b"1", "d/": b"", "big.bin": bytes(CHUNK_SIZE + 1)})
    if "session" in more:
        import aiobotocore.session

        more = {"session": aiobotocore.session.AioSession()}
    source = opened(bucket, {**options, **more})
    leaves = hashed(source)
    assert set(leaves) == {b"a", b"big.bin"}
    assert leaves[b"big.bin"].digest == content_digest(bytes(CHUNK_SIZE + 1))[1]
    assert any(note in text for text in source.notes), source.notes
    assert S3_SECRET not in str(source.notes)
    found, _ = source.entries(NO_RULES)
    assert {item.grade for item in found} == {"etag"}
    put(admin, bucket, {"a": b"2"})
    refused(lambda: list(source.hash_many(found)), "object a .* was replaced", SourceChangedError)


@pytest.mark.parametrize("verify", [False, True, "/etc/ssl/own.pem"])
def test_own_root_certificates_go_through_s3fs(options, monkeypatch, verify):
    import s3fs

    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    options |= {"endpoint_url": "https://127.0.0.1:9", "client_kwargs": {"region_name": "eu-west-1", "verify": verify}}
    connection = objects.connect_s3(s3fs.S3FileSystem(**options), "data")
    if isinstance(verify, str):
        with pytest.raises(objects.UntranslatableError, match="certificates"):
            objects.obstore_for(connection)
    else:
        assert S3_SECRET not in repr(objects.obstore_for(connection))
    assert S3_SECRET not in repr(connection)


# --- checksums of the store ----------------------------------------------------------------------------------------------------


def test_checksums_of_the_store_are_believed_only_when_asked(admin, bucket, options, proxy, way):
    for key, data in {"p/with": b"with", "p/big": bytes(CHUNK_SIZE + 1)}.items():
        admin.put_object(Bucket=bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")
    admin.put_object(Bucket=bucket, Key="p/without", Body=b"without", ChecksumAlgorithm="CRC32")
    read = hashed(opened(bucket, options))
    assert proxy.count("HEAD", "/p/with") == 0
    proxy.seen.clear()
    source = opened(bucket, options)
    source.trust_checksums = True
    found, _ = source.entries(NO_RULES)
    assert {item.path: item.grade for item in found} == {b"big": "etag", b"with": "checksum", b"without": "etag"}
    leaves = {found[i].path: leaf for i, leaf in source.hash_many(found)}
    assert leaves == read, "the same digests, read or believed"
    assert source.provider == {b"with"}
    assert proxy.count("GET", "/p/with?") == 0
    assert proxy.count("HEAD", "/p/big") == 0, "a large object's digest is over chunks: its checksum cannot serve"


def test_checksums_in_a_bucket_with_versions_are_those_of_the_listed_version(admin, versioned, options, way):
    admin.put_object(Bucket=versioned, Key="p/a", Body=b"listed", ChecksumAlgorithm="SHA256")
    source = opened(versioned, options)
    source.trust_checksums = True
    found, _ = source.entries(NO_RULES)
    admin.put_object(Bucket=versioned, Key="p/a", Body=b"later", ChecksumAlgorithm="SHA256")
    ((_, leaf),) = source.hash_many(found)
    assert (found[0].grade, leaf.digest) == ("version", hashlib.sha256(b"listed").digest())
    assert source.provider == {b"a"}


def test_a_checksum_of_a_replaced_object_is_not_taken(admin, bucket, options, proxy):
    admin.put_object(Bucket=bucket, Key="p/a", Body=b"one", ChecksumAlgorithm="SHA256")
    source = opened(bucket, options)
    source.trust_checksums = True
    real = source._store.checksums

    def replaced_meanwhile(items: Any) -> Any:
        admin.put_object(Bucket=bucket, Key="p/a", Body=b"two", ChecksumAlgorithm="SHA256")
        return real(items)

    source._store.checksums = replaced_meanwhile
    refused(lambda: source.entries(NO_RULES), "object a .* was replaced", SourceChangedError)


def test_composite_checksums_are_not_taken(admin, bucket, options, way):
    upload = admin.create_multipart_upload(Bucket=bucket, Key="p/a", ChecksumAlgorithm="SHA256")["UploadId"]
    part = admin.upload_part(
        Bucket=bucket, Key="p/a", UploadId=upload, PartNumber=1, Body=b"one part", ChecksumAlgorithm="SHA256"
    )
    parts = [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumSHA256": part["ChecksumSHA256"]}]
    admin.complete_multipart_upload(Bucket=bucket, Key="p/a", UploadId=upload, MultipartUpload={"Parts": parts})
    source = opened(bucket, options)
    source.trust_checksums = True
    assert hashed(source)[b"a"].digest == hashlib.sha256(b"one part").digest()
    assert source.provider == set()


# --- incremental ---------------------------------------------------------------------------------------------------------------


def test_unchanged_objects_are_not_read_again_and_the_root_is_that_of_a_cold_run(
    tmp_path, admin, versioned, options, proxy, way, provenance
):
    put(admin, versioned, {f"o{i}": b"%d" % i for i in range(10)} | {"big.bin": bytes(CHUNK_SIZE + 1)})

    def take(**more: Any) -> Any:
        proxy.seen.clear()
        return take_snapshot(f"s3://{versioned}/p", name="d", provenance=provenance, storage_options=options, **more)

    index = tmp_path / "index"
    first = take(index=index)
    assert first.header["evidence"]["hashed"] == 11
    again = take(index=index)
    assert (again.root, again.header["evidence"]["provider"]) == (first.root, 11)
    assert not any("/p/" in request.path for request in proxy.seen), "only the listing was asked for"
    put(admin, versioned, {"o3": b"another"})
    third = take(index=index)
    assert [r.path for r in proxy.seen if "/p/" in r.path] == [f"/{versioned}/p/o3"], "only the replaced one was read"
    assert (third.header["evidence"]["hashed"], third.header["evidence"]["provider"]) == (1, 10)
    assert third.root == take().root != first.root


def test_digests_on_the_word_of_the_store_are_counted_as_such(admin, bucket, options, proxy, provenance):
    for name in "ab":
        admin.put_object(Bucket=bucket, Key=f"p/{name}", Body=name.encode(), ChecksumAlgorithm="SHA256")
    put(admin, bucket, {"c": b"c"})
    where = f"s3://{bucket}/p"
    read = take_snapshot(where, name="d", provenance=provenance, storage_options=options)
    taken = take_snapshot(where, name="d", provenance=provenance, storage_options=options, trust_checksums=True)
    assert taken.root == read.root
    assert taken.header["evidence"] == {"hashed": 1, "reused": 0, "provider": 2}
    assert read.header["evidence"]["provider"] == 0


# --- one error, or a consumer that stops --------------------------------------------------------------------------------------------


def test_no_request_starts_after_the_consumer_stops(admin, bucket, options, proxy, way):
    put(admin, bucket, {f"o{i:03d}": b"x" for i in range(300)})
    source = opened(bucket, options)
    found, _ = source.entries(NO_RULES)
    seen: list[tuple[str, int, int]] = []
    leaves = source.hash_many(found, lambda *step: seen.append(step))
    next(leaves)
    leaves.close()
    asked = proxy.count("GET", "/p/o")
    assert running() == 0
    assert proxy.count("GET", "/p/o") == asked
    assert asked < 300
    assert seen == [("hash", 1, 300)]


def test_bytes_in_flight_are_bounded(monkeypatch):
    from cognify_dagster.datasets.sources.local import Found
    from cognify_dagster.datasets.tree import FileKind

    held, most, lock = [0], [0], threading.Lock()

    class Slow:
        location, ranges = "s3://x", True

        def chunks(self, part: Any) -> Any:
            with lock:
                held[0] += part.length
                most[0] = max(most[0], held[0])
            threading.Event().wait(0.002)
            with lock:
                held[0] -= part.length
            return [(part.length, bytes(32))]

    monkeypatch.setattr(objects_reading, "MAX_IN_FLIGHT", 3 * CHUNK_SIZE)
    found = [Found(b"f%d" % i, FileKind.FILE, 3 * CHUNK_SIZE) for i in range(30)]
    assert len(dict(objects_reading.hash_in_threads(Slow(), found))) == 30  # type: ignore[arg-type]
    assert CHUNK_SIZE < most[0] <= 3 * CHUNK_SIZE
