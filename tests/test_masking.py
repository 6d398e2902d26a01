"""Secrets in URIs and logs: what is taken out of them, and what stays."""

import json
import logging
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featureid.cli import console
from featureid.errors import ImageError, StorageError
from featureid.keys import image_key
from featureid.masking import (
    bare_uri,
    is_secret_name,
    masked,
    masked_error,
    masked_log,
    masked_values,
)

AMAZON = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F20261130%2Fs3&X-Amz-Date=20261130T0Z"
    "&X-Amz-Expires=3600&X-Amz-SignedHeaders=host&X-Amz-Security-Token=SECRET&X-Amz-Signature=SECRET"
)
GOOGLE = "X-Goog-Algorithm=A&X-Goog-Credential=a%40b&X-Goog-Expires=9&X-Goog-Signature=SECRET"
AZURE = "sv=2024-11-04&st=2026-11-30T00%3A00Z&se=2026-12-01&sr=b&sp=r&sig=SECRET%3D"
DIGEST = "token=sha256-0917b13a9091915d"  # of SECRET


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("https://user:SECRET@host/a.jpg", "https://host/a.jpg"),
        ("https://SECRET@host:8443/a.jpg", "https://host:8443/a.jpg"),
        ("HTTPS://user:SEC@RET@host/a@b.jpg", "HTTPS://host/a@b.jpg"),
        ("https://user:SEC/RET@host/a@b.jpg", "https://host/a@b.jpg"),
        ("s3://AKIA:SEC/RET+x@bucket/a.jpg", "s3://bucket/a.jpg"),
        ("gs://SECRET@bucket/a.jpg", "gs://bucket/a.jpg"),
        ("sftp://user:SECRET@host/a.jpg", "sftp://user@host/a.jpg"),
        (f"https://host/a.jpg?{AMAZON}", "https://host/a.jpg"),
        (f"https://host/a.jpg?{AMAZON}&versionId=7", "https://host/a.jpg?versionId=7"),
        (f"https://host/a.jpg?w=10&{GOOGLE}", "https://host/a.jpg?w=10"),
        (f"https://host/a.jpg?{AZURE}&snapshot=1", "https://host/a.jpg?snapshot=1"),
        ("https://h/a?AWSAccessKeyId=A&Expires=1764460800&Signature=SECRET", "https://h/a"),
        ("https://h/a?Policy=SECRET&Signature=SECRET&Key-Pair-Id=K", "https://h/a"),
        ("https://h/a?id=3&access_token=SECRET", "https://h/a?id=3"),
        ("https://h/a?token=SECRET&expires=1764460800", "https://h/a"),
        ("https://h/a?token=eyJhbGci.SECRET", "https://h/a"),
        ("https://h/a?token=SECRET", f"https://h/a?{DIGEST}"),
        ("https://h/a#token=SECRET", f"https://h/a#{DIGEST}"),
        ("https://h/a?X%2DAmz%2DSignature=SECRET&b", "https://h/a?b"),
    ],
)
def test_what_gives_access_is_not_in_a_bare_uri(uri: str, bare: str) -> None:
    assert bare_uri(uri) == image_key(uri) == bare
    assert "SEC" not in masked(f"Cannot read {uri}: gone, or '{uri}'; ({uri}).")
    assert masked(f"({uri}), twice: '{uri}'.") == f"({bare}), twice: '{bare}'."


@pytest.mark.parametrize(
    "uri",
    [
        "/photos/https:/user:name@host.jpg",
        "/photos/a.jpg?token=1",
        "https://host:8080/a@b.jpg?",
        "https://[::1]:8080/a@b:c.jpg",
        "https://host/a?tokenId=7&key=a.jpg&page=2#top",
        "https://host/a?st=1&sp=2&policy=3&expires=1764460800&e=photo",
        "s3://bucket/a?token=1&sig=2.jpg",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/name/a@b.jpg",
        "abfs://container@account.dfs.core.windows.net/a.jpg",
        "github://organization:repository@main/a.jpg",
        "memory://a:b/c@d.jpg",
    ],
)
def test_what_names_an_image_stays(uri: str) -> None:
    assert bare_uri(uri) == uri


NAMES = st.sampled_from(
    ["id", "w", "key", "sig", "sv", "sp", "token", "Expires", "Signature", "X-Amz-Date", "tokenId"]
)
WORDS = st.text(string.ascii_letters + string.digits + ":/@%+=-_.", max_size=12)
QUERIES = st.lists(st.tuples(NAMES, WORDS).map("=".join), max_size=5).map("&".join)
URIS = st.builds(
    "{}://{}{}{}{}".format,
    st.sampled_from(["http", "https", "s3", "gs", "ftp", "memory"]),
    st.one_of(st.just(""), WORDS.map("{}@".format)),
    WORDS,
    st.sampled_from(["", "?", "#", "/a?"]),
    QUERIES,
)


@given(URIS)
def test_a_bare_uri_is_its_own(uri: str) -> None:
    assert bare_uri(bare_uri(uri)) == bare_uri(uri)


@given(
    path=st.text(string.ascii_letters + "/.@:", min_size=1),
    other=st.text(string.ascii_letters + "/.@:", min_size=1),
    signatures=st.lists(st.sampled_from([AMAZON, GOOGLE, AZURE]), min_size=2, max_size=2),
)
def test_signatures_change_no_key_and_images_keep_theirs(
    path: str, other: str, signatures: list[str]
) -> None:
    first, second = (bare_uri(f"https://host/{path}?{query}") for query in signatures)
    assert first == second
    assert (bare_uri(f"https://host/{other}?{signatures[0]}") == first) == (path == other)


def test_a_prefix_may_have_a_password_of_its_own() -> None:
    prefix = "https://user:old@host/photos/"
    assert image_key(f"https://user:new@host/photos/a.jpg?{AMAZON}", prefix) == "a.jpg"


def test_no_error_quotes_a_secret() -> None:
    assert str(StorageError("Cannot read https://u:SECRET@h/a.jpg: gone")) == (
        "Cannot read https://h/a.jpg: gone"
    )
    assert "SECRET" not in str(ImageError("read", "unreadable", f"see 'https://h/a?{AMAZON}'"))
    for bucket, said in {"AKIA:SECRET/SECRETS@b": "***@b", "AKIA:SECRET": "***:***"}.items():
        text = masked_error(f"Invalid bucket '{bucket}'", "s3://AKIA:SECRET/SECRETS@b/a.jpg")
        assert text == f"Invalid bucket '{said}'"


def test_the_values_of_secret_names_are_not_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "VARIABLE")
    monkeypatch.setattr("sys.argv", ["featureid", "--s3_secret_access_key", "OPTION", "--a=b"])
    line = (
        "{'s3_secret_access_key': 'SECRET', 'x': 1} x-amz-security-token:SECRET AccountKey=SECRET; "
        "Authorization: Bearer SECRET, see https://h/?sig=SECRET VARIABLE OPTION"
    )
    assert masked_log(line) == (
        "{'s3_secret_access_key': '***', 'x': 1} x-amz-security-token:*** AccountKey=***; "
        "Authorization: Bearer ***, see https://h/ *** ***"
    )
    for name in ("AWS_SECRET_ACCESS_KEY", "azure_connection_string", "PGPASSWORD", "X-Api-Key"):
        assert is_secret_name(name)
    for name in ("tokenizer", "GOOGLE_APPLICATION_CREDENTIALS", "key", "PWD", "s3_region_name"):
        assert not is_secret_name(name)


def test_the_log_and_results_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    console.set_up_log("debug")
    logging.getLogger("featureid.x").warning("read %s", "https://u:SECRET@h/a.jpg")
    try:
        raise OSError("https://h/a?sig=SECRET")
    except OSError:
        logging.getLogger("library").exception("session_token=SECRET")
    console.set_up_log("warning")
    console.print_result({"image": "https://SECRET@h/a", "n": [1]}, True, [])
    console.print_result({}, False, ["at https://u:SECRET@h/a"])
    captured = capsys.readouterr()
    assert "SECRET" not in captured.out + captured.err
    assert "read https://h/a.jpg\n" in captured.err and "session_token=***" in captured.err
    first, second = captured.out.splitlines()
    assert json.loads(first) == {"image": "https://h/a", "n": [1]} and second == "at https://h/a"


def test_values_are_masked_at_any_depth() -> None:
    assert masked_values({"a": [("https://h/a?sig=S", 1.5, None)], "b": "/x"}) == {
        "a": [["https://h/a", 1.5, None]],
        "b": "/x",
    }
