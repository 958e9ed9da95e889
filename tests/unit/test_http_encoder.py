"""An OpenAI-compatible endpoint, against a real server on the loopback that misbehaves on request."""

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from hybridsearch.encoders import checked
from hybridsearch.encoders.base import Encoder
from hybridsearch.encoders.http import HttpEncoder
from hybridsearch.encoders.http_client import EmbeddingsClient, _wish
from hybridsearch.errors import ConfigurationError, EncoderError

KEY = "sk-very-secret-0123456789"


def vector(text: str, dimensions: int) -> list[float]:
    """A direction of its own for each text, not normalised."""
    digest = hashlib.sha256(text.encode()).digest()
    return [byte - 127.5 for byte in digest[:dimensions]]


def proper(handler: "Handler") -> None:
    body = handler.body
    rows = [vector(text, body.get("dimensions", 8)) for text in body["input"]]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    handler.answer(200, {"object": "list", "data": data[::-1], "model": body["model"]})


def status(code: int, **headers: str) -> Callable[["Handler"], None]:
    return lambda handler: handler.answer(code, {"error": {"message": f"no, {handler.key}"}}, **headers)


def answer(body: object) -> Callable[["Handler"], None]:
    return lambda handler: handler.answer(200, body)


def hang_up(handler: "Handler") -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def sleep(handler: "Handler") -> None:
    handler.server.released.wait(5)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.key = self.headers.get("authorization", "")
        server = self.server
        with server.lock:
            server.requests.append((self.path, self.key, self.body))
            behave = server.script.pop(0) if server.script else proper
        try:
            behave(self)
        except OSError:
            self.close_connection = True

    def answer(self, code: int, body: object, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        pass


class Endpoint(ThreadingHTTPServer):
    """`script` holds what to do with the next requests; after that every one is answered properly."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Callable[[Handler], None]] = []
        self.requests: list[tuple[str, str, dict]] = []
        self.lock, self.released = threading.Lock(), threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def key(monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def make(endpoint: Endpoint, **options) -> HttpEncoder:
    return HttpEncoder("small", base_url=endpoint.url, **({"dimensions": 8} | options))


# ---- what it sends and returns


def test_vectors_come_in_the_order_of_the_texts_with_norm_1(endpoint):
    encoder = make(endpoint)
    assert isinstance(encoder, Encoder)
    texts = [f"text {i}" for i in range(10)]
    encoding = checked(encoder, encoder.encode_documents(texts), 10)
    for row, text in zip(encoding.dense, texts, strict=True):
        expected = np.array(vector(text, 8))
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_request_holds_the_model_the_dimensions_the_prompt_and_the_key(endpoint):
    make(endpoint, query_prompt="query: ").encode_queries(["chair"])
    path, authorization, body = endpoint.requests[0]
    assert (path, authorization) == ("/v1/embeddings", f"Bearer {KEY}")
    assert body == {"model": "small", "input": ["query: chair"], "encoding_format": "float", "dimensions": 8}


def test_many_texts_are_several_requests(endpoint):
    assert len(make(endpoint, batch=4).encode_documents(["x"] * 10)) == 10
    assert [len(body["input"]) for _, _, body in endpoint.requests] == [4, 4, 2]


def test_no_texts_are_no_request(endpoint):
    assert len(make(endpoint).encode_documents([])) == 0
    assert endpoint.requests == []


def test_dimensions_that_are_not_given_are_asked_for_once(endpoint):
    encoder = make(endpoint, dimensions=None)
    assert encoder.dimensions == encoder.dimensions == 8
    assert len(endpoint.requests) == 1
    assert "dimensions" not in endpoint.requests[0][2]


def test_declared_dimensions_are_not_sent_to_a_model_that_cannot_shorten(endpoint):
    make(endpoint, send_dimensions=False).encode_queries(["x"])
    assert "dimensions" not in endpoint.requests[0][2]


def test_texts_that_an_endpoint_would_refuse_are_sent_as_ones_it_takes(endpoint):
    encoder = make(endpoint, max_tokens=3)
    encoder.encode_documents(["", "a\0b", "\ud83d", "one two three four", "abcdefghijkl", "向量数据库"])
    assert endpoint.requests[0][2]["input"] == [" ", "a b", " ", "one two thr", "abcdefghi", "向量数"]


def test_the_fingerprint_has_what_changes_a_vector_and_no_password(endpoint):
    one = HttpEncoder("small", base_url="http://user:pass@host:1/v1/", dimensions=8)
    assert "pass" not in one.fingerprint
    assert one.fingerprint == HttpEncoder("small", base_url="http://host:1/v1", dimensions=8).fingerprint
    others = [
        {"dimensions": 4},
        {"dimensions": 8, "query_prompt": "q"},
        {"dimensions": 8, "base_url": "http://else/v1"},
    ]
    prints = {HttpEncoder("small", **({"base_url": "http://host:1/v1"} | other)).fingerprint for other in others}
    assert len(prints | {one.fingerprint}) == 4


# ---- an endpoint that misbehaves


@pytest.mark.parametrize("code", [429, 500, 502, 503, 529])
def test_a_busy_endpoint_is_asked_again(endpoint, code):
    endpoint.script = [status(code, retry_after="0")] * 3
    assert len(make(endpoint).encode_queries(["x"])) == 1
    assert len(endpoint.requests) == 4


def test_a_lost_connection_is_opened_again(endpoint):
    endpoint.script = [hang_up]
    assert len(make(endpoint).encode_queries(["x"])) == 1
    assert len(endpoint.requests) == 2


def test_an_endpoint_that_does_not_answer_is_asked_again_and_then_given_up(endpoint):
    endpoint.script = [sleep] * 2
    begin = time.monotonic()
    with pytest.raises(EncoderError, match=r'"openai:small": ReadTimeout from http://127.*, 2 times in all'):
        make(endpoint, timeout=0.1, attempts=2).encode_queries(["x"])
    assert time.monotonic() - begin < 3
    assert len(endpoint.requests) == 2


def test_an_endpoint_that_stays_busy_is_given_up_after_the_last_attempt(endpoint):
    endpoint.script = [status(429, retry_after="0")] * 9
    with pytest.raises(EncoderError, match=r"answered 429 .*, 3 times in all"):
        make(endpoint, attempts=3).encode_queries(["x"])
    assert len(endpoint.requests) == 3


def test_the_pause_that_the_endpoint_asks_for_is_kept(endpoint):
    endpoint.script = [status(429, retry_after="1")]
    begin = time.monotonic()
    make(endpoint).encode_queries(["x"])
    assert time.monotonic() - begin >= 1


def test_pauses_grow_when_the_endpoint_asks_for_none(endpoint, caplog):
    endpoint.script = [status(500)] * 4
    client = EmbeddingsClient(endpoint.url, name="x", timeout=5, attempts=5, first_pause=0.01)
    with caplog.at_level(logging.WARNING):
        client.embeddings({"model": "m", "input": ["x"]}, None, 1)
    assert len(caplog.records) == 4
    client.close()


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 301])
def test_a_refusal_is_not_tried_again(endpoint, code):
    endpoint.script = [status(code)]
    with pytest.raises(EncoderError, match=f"embeddings answered {code} "):
        make(endpoint).encode_queries(["x"])
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>welcome to the hotel network</html>",
        b"",
        b"\xff\xfe",
        {"data": []},
        {"data": None},
        {"error": "no"},
        [],
        {"data": [{"index": 0, "embedding": [1, 2]}, {"index": 0, "embedding": [1, 2]}]},
        {"data": [{"index": 0, "embedding": None}] * 2},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": [1] * 8}, {"index": 1, "embedding": [1] * 7}]},
        {"data": [{"index": 0, "embedding": [1] * 8}]},
        {"data": [{"index": i, "embedding": [1] * 8} for i in range(3)]},
        {"data": [{"index": i, "embedding": [0] * 8} for i in range(2)]},
        {"data": [{"index": i, "embedding": [None] * 8} for i in range(2)]},
        {"data": [{"index": i, "embedding": [1] * 4} for i in range(2)]},
        {"data": [{"index": i, "embedding": []} for i in range(2)]},
    ],
)
def test_an_answer_that_is_no_embeddings_is_an_error_of_ours(endpoint, body):
    endpoint.script = [answer(body)]
    with pytest.raises(EncoderError, match='encoder "openai:small"'):
        make(endpoint).encode_queries(["x", "y"])


def test_nobody_there_is_said_with_the_address():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://user:{KEY}@127.0.0.1:{free.getsockname()[1]}/v1"
    encoder = HttpEncoder("small", base_url=url, dimensions=8, attempts=1)
    with pytest.raises(EncoderError, match=r"ConnectError from http://127\.0\.0\.1") as caught:
        encoder.encode_queries(["x"])
    assert KEY not in str(caught.value)


def test_threads_share_one_encoder(endpoint):
    encoder = make(endpoint)
    results: dict[int, np.ndarray] = {}
    threads = [
        threading.Thread(target=lambda i=i: results.update({i: encoder.encode_queries([f"t{i}"]).dense}))
        for i in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.allclose(results[i], encoder.encode_queries([f"t{i}"]).dense) for i in range(8))


# ---- the key


def test_the_key_is_in_no_log_no_message_no_repr(endpoint, caplog):
    encoder = make(endpoint, attempts=2)
    endpoint.script = [status(429, retry_after="0"), status(401)]
    with caplog.at_level(logging.DEBUG), pytest.raises(EncoderError) as caught:
        encoder.encode_queries(["x"])
    chain: list[BaseException] = []
    error: BaseException | None = caught.value
    while error:
        chain.append(error)
        error = error.__cause__ or error.__context__
    shown = caplog.text + "".join(f"{e!r}{e}{vars(e)}" for e in chain) + repr(encoder) + repr(vars(encoder))
    assert "401" in shown
    assert KEY not in shown


def test_a_missing_key_names_the_variable(endpoint, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigurationError, match="environment variable OPENAI_API_KEY"):
        make(endpoint).encode_queries(["x"])
    make(endpoint, api_key_env=None).encode_queries(["x"])
    assert [authorization for _, authorization, _ in endpoint.requests] == [""]


def test_a_closed_encoder_opens_again(endpoint):
    encoder = make(endpoint)
    encoder.encode_queries(["x"])
    encoder.close()
    assert len(encoder.encode_queries(["x"])) == 1


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 1e9, 1e12)],
)
def test_retry_after_is_seconds_or_a_date(header, least, most):
    assert least <= _wish(header) <= most


@pytest.mark.parametrize("header", [None, "", "soon", "-3"])
def test_a_retry_after_that_says_nothing_is_ignored(header):
    assert _wish(header) is None
