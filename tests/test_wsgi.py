"""The WSGI face: what PEP 3333 allows apps and servers to do, on a miss, on a hit and past the store."""

from __future__ import annotations

import contextvars
import io
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.handlers import SimpleHandler
from wsgiref.util import FileWrapper, setup_testing_defaults
from wsgiref.validate import validator

import pytest

from tiercache import TierCache

App = Callable[[dict[str, Any], Any], Iterable[bytes]]
TEXT = [("Content-Type", "text/plain")]


def environ_for(path: str = "/p/1", method: str = "GET", **more: Any) -> dict[str, Any]:
    environ: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "QUERY_STRING": ""}
    environ |= {"HTTP_HOST": "x", "SCRIPT_NAME": ""}
    setup_testing_defaults(environ)
    return {**environ, "wsgi.input": io.BytesIO(), **more}


def serve(app: App, path: str = "/p/1", method: str = "GET", **more: Any) -> bytes:
    """The bytes that a real, strict handler sends."""
    out = io.BytesIO()
    handler = SimpleHandler(io.BytesIO(), out, sys.stderr, environ_for(path, method, **more), multithread=True)
    handler.http_version = "1.1"
    handler.error_status, handler.log_exception = "500 Failed", lambda exc_info: None  # type: ignore[method-assign]
    handler.run(app)
    return out.getvalue()


def body_of(sent: bytes) -> bytes:
    return sent.partition(b"\r\n\r\n")[2]


def status_of(sent: bytes) -> bytes:
    """What `Cache-Status` says, without `ttl`."""
    for line in sent.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        if line.startswith(b"Cache-Status: "):
            return b"; ".join(part for part in line[14:].split(b"; ") if not part.startswith(b"ttl="))
    return b""


HIT = b"tiercache; hit; detail=l1"


@pytest.fixture
def cache() -> TierCache:
    cache = TierCache()
    cache.route("/p/{rest:path}", ttl="10m")
    return cache


class Body:
    """An app's own iterable, which counts how often it is closed."""

    def __init__(self, pieces: Iterable[bytes], fail: BaseException | None = None) -> None:
        self._pieces = iter(pieces)
        self._fail = fail
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._pieces)
        except StopIteration:
            if self._fail is not None:
                raise self._fail from None
            raise

    def close(self) -> None:
        self.closed += 1


def app_with(body: Callable[[], Any], headers: list[tuple[str, str]] = TEXT, status: str = "200 OK") -> App:
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response(status, list(headers))
        return body()

    return app


def test_write_and_iterable_together(cache: TierCache) -> None:
    calls = 0

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        nonlocal calls
        calls += 1
        write = start_response("200 OK", TEXT)
        write(b"written ")
        write(b"twice ")
        return [b"and returned"]

    wrapped = validator(cache.wsgi(validator(app)))
    assert [body_of(serve(wrapped)) for _ in range(2)] == [b"written twice and returned"] * 2
    assert calls == 1


def test_write_from_inside_a_generator(cache: TierCache) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        write = start_response("200 OK", TEXT)
        yield b"a"
        write(b"b")
        yield b"c"

    wrapped = cache.wsgi(app)
    assert [body_of(serve(wrapped)) for _ in range(2)] == [b"abc"] * 2
    assert status_of(serve(wrapped)) == HIT


def test_a_generator_that_calls_start_response_late(cache: TierCache) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"late"

    wrapped = validator(cache.wsgi(app))
    first, second = serve(wrapped), serve(wrapped)
    assert (status_of(first), status_of(second)) == (b"tiercache; fwd=miss; stored", HIT)
    assert body_of(first) == body_of(second) == b"late"


@pytest.mark.parametrize(
    ("path", "headers", "method"),
    [
        ("/p/1", TEXT, "GET"),
        ("/p/1", [*TEXT, ("Cache-Control", "private")], "GET"),
        ("/other", TEXT, "GET"),
        ("/p/1", TEXT, "POST"),
        ("/p/1", TEXT, "HEAD"),
    ],
)
@pytest.mark.parametrize("failing", [False, True])
def test_close_is_called_exactly_once(
    cache: TierCache, path: str, headers: list[tuple[str, str]], method: str, failing: bool
) -> None:
    bodies: list[Body] = []

    def make() -> Body:
        bodies.append(Body([] if method == "HEAD" else [b"a", b"b"], OSError("disk") if failing else None))
        return bodies[-1]

    wrapped = cache.wsgi(app_with(make, headers))
    serve(wrapped, path, method)
    serve(wrapped, path, method)
    assert bodies
    assert [body.closed for body in bodies] == [1] * len(bodies)


def test_close_without_reading_stores_nothing(cache: TierCache) -> None:
    body = Body([b"a", b"b"])
    wrapped = cache.wsgi(app_with(lambda: body))
    result = wrapped(environ_for(), lambda *args: None)
    assert next(iter(result)) == b"a"
    result.close()  # type: ignore[attr-defined]
    assert body.closed == 1
    assert cache.stats()["stored"] == 0
    assert len(cache._engine.flights) == 0


def test_a_body_whose_close_fails(cache: TierCache) -> None:
    class Failing(Body):
        def close(self) -> None:
            raise OSError("at the end")

    wrapped = cache.wsgi(app_with(lambda: Failing([b"a"])))
    result = wrapped(environ_for(), lambda *args: None)
    assert list(result) == [b"a"]
    with pytest.raises(OSError, match="at the end"):
        result.close()  # type: ignore[attr-defined]
    assert len(cache._engine.flights) == 0


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
@pytest.mark.parametrize("path", ["/p/1", "/other"])
@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_keeps_its_length(cache: TierCache, method: str, path: str, kind: Callable[..., Any]) -> None:
    wrapped = cache.wsgi(app_with(lambda: kind([b"12345"])))
    for _ in range(2):
        sent = serve(wrapped, path, method)
        assert b"\r\nContent-Length: 5\r\n" in sent
        assert body_of(sent) == b"12345"


def test_a_file_of_which_no_copy_is_kept_goes_out_by_the_servers_own_means(cache: TierCache) -> None:
    wrapper = FileWrapper(io.BytesIO(b"file"))
    for headers, method in (([*TEXT, ("Cache-Control", "no-store")], "GET"), (TEXT, "HEAD")):
        assert cache.wsgi(app_with(lambda: wrapper, headers))(environ_for(method=method), lambda *a: None) is wrapper


def test_a_file_that_is_stored(cache: TierCache) -> None:
    files: list[io.BytesIO] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        files.append(io.BytesIO(b"file" * 5_000))
        start_response("200 OK", TEXT)
        return environ.get("wsgi.file_wrapper", FileWrapper)(files[-1])

    wrapped = cache.wsgi(app)
    assert [body_of(serve(wrapped)) for _ in range(2)] == [b"file" * 5_000] * 2
    assert len(files) == 1
    assert files[0].closed


def test_exc_info_before_the_first_byte_replaces_the_response(cache: TierCache) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [*TEXT, ("X-First", "1")])
        try:
            raise ValueError("late")
        except ValueError:
            # Even one that says of itself that it may be kept.
            start_response("500 Broken", [*TEXT, ("Cache-Control", "max-age=60")], sys.exc_info())
        return [b"sorry"]

    wrapped = validator(cache.wsgi(validator(app)))
    for _ in range(2):
        sent = serve(wrapped)
        assert sent.startswith(b"HTTP/1.1 500 Broken\r\n")
        assert b"X-First" not in sent
        assert body_of(sent) == b"sorry"
    assert cache.stats()["stored"] == 0


def test_exc_info_after_the_first_byte_raises_in_the_app(cache: TierCache) -> None:
    seen: list[BaseException] = []

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"sent"
        try:
            raise ValueError("too late")
        except ValueError:
            try:
                start_response("500 Broken", TEXT, sys.exc_info())
            except ValueError as error:
                seen.append(error)
                raise

    sent = serve(cache.wsgi(app))
    assert [str(error) for error in seen] == ["too late"]
    assert body_of(sent).endswith(b"sent")
    assert cache.stats()["stored"] == 0
    assert len(cache._engine.flights) == 0


def test_a_second_start_response_without_exc_info_is_the_servers_to_refuse(cache: TierCache) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        start_response("200 OK", TEXT)
        return [b"twice"]

    assert b"500 Failed" in serve(cache.wsgi(app))
    assert cache.stats()["stored"] == 0


@pytest.mark.parametrize("returned", [None, ["text"], [7], 5], ids=repr)
def test_a_body_that_is_not_one_holds_nobody_up(cache: TierCache, returned: Any) -> None:
    wrapped = cache.wsgi(app_with(lambda: returned))
    for _ in range(2):
        with pytest.raises((TypeError, AttributeError)):
            b"".join(wrapped(environ_for(), lambda *args: None))
    assert len(cache._engine.flights) == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_status_that_is_no_number_is_the_servers_to_judge(cache: TierCache, method: str) -> None:
    statuses: list[str] = []
    wrapped = cache.wsgi(app_with(lambda: [b"odd"], status="odd"))
    result = wrapped(environ_for(method=method), lambda status, headers, exc_info=None: statuses.append(status))
    assert list(result) == [b"odd"]
    assert statuses == ["odd"]
    assert cache.stats()["stored"] == 0


@pytest.mark.parametrize("path", ["/p/caf\xe9", "/p/caf\xc3\xa9", "/p/\xff\xfe", "/p/a%b"])
def test_paths_of_any_bytes(cache: TierCache, path: str) -> None:
    wrapped = validator(cache.wsgi(validator(app_with(lambda: [b"ok"]))))
    first, second = serve(wrapped, path), serve(wrapped, path)
    assert (status_of(first), status_of(second)) == (b"tiercache; fwd=miss; stored", HIT)
    assert status_of(serve(wrapped, path + "x")) == b"tiercache; fwd=miss; stored"


def test_a_purge_by_url_finds_a_path_with_a_percent_sign_in_it(cache: TierCache) -> None:
    wrapped = cache.wsgi(app_with(lambda: [b"ok"]))
    serve(wrapped, "/p/caf\xc3\xa9%41")
    assert status_of(serve(wrapped, "/p/caf\xc3\xa9%41")) == HIT
    cache.purge(urls="http://x/p/caf%C3%A9%2541")
    assert status_of(serve(wrapped, "/p/caf\xc3\xa9%41")) == b"tiercache; fwd=miss; stored"


def test_the_mount_point_is_part_of_path_and_key(cache: TierCache) -> None:
    wrapped = cache.wsgi(app_with(lambda: [b"ok"]))
    serve(wrapped, "/1", SCRIPT_NAME="/p")
    assert status_of(serve(wrapped, "/1", SCRIPT_NAME="/p")) == HIT
    assert status_of(serve(wrapped, "/p/1", SCRIPT_NAME="")) == b"tiercache; fwd=miss; stored"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
@pytest.mark.parametrize("condition", [{}, {"HTTP_IF_NONE_MATCH": "*"}, {"HTTP_RANGE": "bytes=0-1"}])
def test_the_validator_finds_no_fault(cache: TierCache, method: str, condition: dict[str, str]) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", TEXT)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"body"]

    wrapped = validator(cache.wsgi(validator(app)))
    serve(wrapped, method=method, **condition)
    serve(wrapped)
    sent = serve(wrapped, method=method, **condition)
    if condition and method in ("GET", "HEAD"):
        expected = b" 304 Not Modified" if "HTTP_IF_NONE_MATCH" in condition else b" 206 Partial Content"
        assert expected in sent.partition(b"\r\n")[0] or method == "HEAD"


def test_an_outer_middleware_that_edits_a_hit_leaves_the_next_one_alone(cache: TierCache) -> None:
    inner = cache.wsgi(app_with(lambda: [b"ok"]))
    names: list[list[str]] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
        names.append([name for name, _ in headers])
        headers.append(("X-Outer", "1"))
        headers[0] = ("X-Replaced", "1")

    for _ in range(3):
        inner(environ_for(), start_response)
    assert names[1] == names[2]
    assert "X-Outer" not in names[2]


def test_an_app_that_reuses_its_header_list(cache: TierCache) -> None:
    headers = list(TEXT)

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return [b"ok"]

    wrapped = cache.wsgi(app)
    serve(wrapped, "/p/1")
    headers.append(("X-Later", "1"))
    assert b"X-Later" not in serve(wrapped, "/p/1")
    assert headers == [*TEXT, ("X-Later", "1")]
    for path in ("/p/2", "/other"):
        assert serve(wrapped, path).count(b"Cache-Status") == 1
    assert headers == [*TEXT, ("X-Later", "1")]


@pytest.mark.parametrize("how", ["read", "readline", "readlines", "iterate", "readinto"])
def test_an_app_that_finds_content_nobody_announced(cache: TierCache, how: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        stream = environ["wsgi.input"]
        buffer = bytearray(9)
        found = {
            "read": lambda: stream.read(9),
            "readline": lambda: stream.readline(),
            "readlines": lambda: b"".join(stream.readlines()),
            "iterate": lambda: b"".join(stream),
            "readinto": lambda: bytes(buffer[: stream.readinto(buffer)]),
        }[how]()
        start_response("200 OK", TEXT)
        return [found]

    wrapped = cache.wsgi(app)
    for content in (b"first", b"second"):
        result = wrapped({**environ_for(), "wsgi.input": io.BytesIO(content)}, lambda *args: None)
        assert b"".join(result) == content
    assert cache.stats()["refused"] == {"body": 2}


def test_context_of_an_outer_middleware_reaches_the_app(cache: TierCache) -> None:
    name = contextvars.ContextVar("name", default="nobody")
    wrapped = cache.wsgi(app_with(lambda: [name.get().encode()]))
    name.set("outer")
    assert body_of(serve(wrapped)) == b"outer"


def test_a_response_that_nobody_reads_is_stored_all_the_same(cache: TierCache) -> None:
    """A test client may look at the head alone, and keep the rest for later."""
    ended: list[str] = []

    def pieces(*parts: bytes) -> Iterator[bytes]:
        yield from parts
        ended.append("app")

    headers = [*TEXT, ("Content-Length", "5")]
    long = cache.wsgi(app_with(lambda: pieces(b"he", b"llo"), headers))(environ_for("/p/1"), lambda *args: None)
    assert (len(cache._engine.flights), ended) == (1, [])
    whole = cache.wsgi(app_with(lambda: pieces(b"hello"), headers))(environ_for("/p/2"), lambda *args: None)
    assert (len(cache._engine.flights), ended) == (1, [])
    assert cache.stats()["stored"] == 1
    assert (b"".join(long), b"".join(whole), ended) == (b"hello", b"hello", ["app", "app"])
    assert cache.stats()["stored"] == 2


def test_what_an_app_does_after_its_last_piece_holds_nobody_up(cache: TierCache) -> None:
    """Every announced byte is there: it goes out, and is stored, before the app is asked for its own end."""
    went_on: list[str] = []

    def pieces() -> Iterator[bytes]:
        yield b"hello"
        went_on.append("slow work behind the response")

    wrapped = cache.wsgi(app_with(pieces, [*TEXT, ("Content-Length", "5")]))
    body = iter(wrapped(environ_for(), lambda *args: None))
    assert (next(body), went_on) == (b"hello", [])
    assert status_of(serve(wrapped)) == HIT
    assert list(body) == []
    assert went_on == ["slow work behind the response"]
