"""What S3 rejects is reported at once, with bucket, key, cause and remedy; servers without conditions are found out."""

from __future__ import annotations

import http.client
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from feature_store.errors import StorageError
from feature_store.storage.location import open_location
from feature_store.storage.s3_connection import connect
from feature_store.storage.s3_path import S3Path
from feature_store.storage.s3_replacing import replace_object
from tests.servers.s3 import environment

pytestmark = pytest.mark.slow

REGION = "the region 'eu-central-1' is wrong; expecting 'us-west-2'"
ANSWERS = {
    "denied": (403, "AccessDenied", "Access Denied", "s3:ListBucket on 'denied'"),
    "expired": (400, "ExpiredToken", "The provided token has expired.", "sign in again"),
    "unknown": (403, "InvalidAccessKeyId", "It does not exist in our records.", "check access key"),
    "unsigned": (403, "SignatureDoesNotMatch", "It does not match.", "check access key"),
    "nowhere": (404, "NoSuchBucket", "The specified bucket does not exist", "There is no bucket 'nowhere'"),
    "elsewhere": (400, "AuthorizationHeaderMalformed", REGION, "set AWS_REGION=us-west-2"),
    "moved": (301, "PermanentRedirect", "Use the specified endpoint.", "AWS_REGION to the bucket's"),
    "late": (403, "RequestTimeTooSkewed", "The difference is too large.", "synchronize it"),
}


class Refusing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        bucket = self.path.lstrip("/").partition("/")[0].partition("?")[0]
        status, code, text, _ = ANSWERS[bucket]
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{text}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815  # names that the base class looks up

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def places(monkeypatch) -> Iterator[dict[str, S3Path]]:
    with serving(Refusing) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        yield {bucket: open_location(f"s3://{bucket}/prefix", setting="root") for bucket in ANSWERS}


REQUESTS = {
    "list": lambda place: list(place.objects()),
    "list a folder": lambda place: list(place.iterdir()),
    "read": lambda place: (place / "key").read_bytes(),
    "write": lambda place: (place / "key").put(b"x"),
    "look": lambda place: (place / "key").stat(),
    "remove": lambda place: (place / "key").unlink(),
}


@pytest.mark.parametrize("bucket", ANSWERS)
def test_what_is_rejected_is_reported_at_once_with_its_remedy(bucket, places):
    for name, ask in REQUESTS.items():
        if bucket == "nowhere" and name == "look":
            continue  # an answer without words: as if there were no object, until something is listed or written
        began = time.monotonic()
        with pytest.raises(StorageError) as failed:
            ask(places[bucket])
        assert time.monotonic() - began < 10
        text = str(failed.value)
        assert f"s3://{bucket}/prefix" in text
        assert ANSWERS[bucket][1] in text
        assert ANSWERS[bucket][3] in text


@pytest.mark.slow
def test_a_server_that_is_out_of_reach_is_reported_within_seconds_and_its_password_is_not_shown(monkeypatch):
    for name, value in environment("http://user:hunter2@127.0.0.1:1").items():
        monkeypatch.setenv(name, value)
    place = open_location("s3://bucket/prefix", setting="root")
    began = time.monotonic()
    with pytest.raises(StorageError, match=r"No server answers at http://\*\*\*@127.0.0.1:1\.") as failed:
        list(place.objects())
    assert time.monotonic() - began < 10
    assert "hunter2" not in str(failed.value)


def test_a_bucket_with_dots_is_in_the_path(monkeypatch):
    for name, value in environment("").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    assert connect("plain").requests.config["virtual_hosted_style_request"] == "true"
    assert connect("data.example.com").requests.config["virtual_hosted_style_request"] == "false"


def test_credentials_that_another_tool_has_renewed_are_used(tmp_path, monkeypatch):
    seen = []

    class Signing(Refusing):
        def do(self) -> None:
            seen.append(self.headers.get("authorization", ""))
            if "FIRST" in seen[-1]:
                self.path = "/expired/"
                super().do()
                return
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response_only(200)
            self.send_header("content-length", "0")
            self.send_header("etag", '"tag"')
            self.end_headers()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815  # names that the base class looks up

    shared = tmp_path / "credentials"
    text = "[default]\naws_access_key_id = {}\naws_secret_access_key = secret\naws_session_token = token\n"
    shared.write_text(text.format("FIRST"))
    with serving(Signing) as url:
        for name, value in environment(url).items():
            monkeypatch.setenv(name, value)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(shared))
        place = S3Path("bucket", "key", connect("bucket"))
        with pytest.raises(StorageError, match="have expired: sign in again"):
            place.put(b"x")
        shared.write_text(text.format("SECOND"))
        place.put(b"x")
    assert "SECOND" in seen[-1]


def test_a_server_that_ignores_conditions_is_written_to_by_nobody(s3_server, s3_root, monkeypatch):
    upstream = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc

    class Ignoring(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            kept = {n: v for n, v in self.headers.items() if n.lower() not in {"if-match", "if-none-match"}}
            connection = http.client.HTTPConnection(upstream, timeout=30)
            connection.request(self.command, self.path, body, kept)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                    self.send_header(name, value)
            length = answer.getheader("content-length") if self.command == "HEAD" else str(len(content))
            self.send_header("content-length", length or "0")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)
            connection.close()

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do  # noqa: N815  # names that the base class looks up

        def log_message(self, *_: object) -> None:
            pass

    with serving(Ignoring) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        place = open_location(s3_root, setting="root")
        with pytest.raises(StorageError, match="does not keep the conditions of writes"):
            replace_object(place / "file.parquet", lambda: lambda handle: handle.write(b"x"))
        assert list(place.objects()) == []
