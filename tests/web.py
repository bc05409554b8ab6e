"""Objects on loopback: a server of HTTP that counts requests and fails as it is told, and parts of an ObjectStore."""

import hashlib
import http.client
import http.server
import re
import threading
import urllib.parse
from typing import NamedTuple

from tests import object_store


class Request(NamedTuple):
    """What somebody asked for: `span` is the first byte and the one behind the last, or None for all."""

    method: str
    path: str
    span: tuple[int, int] | None = None


class Web:
    """A server of HTTP that answers ranges.

    Attributes:
      objects: what it holds, by path, without the query.
      requests: what was asked so far.
      fault: called with each request before it is answered; returns None, a status of HTTP, or `half`: the connection
        ends in the middle.
      tells_version: whether answers have an ETag.
    """

    def __init__(self):
        self.objects = {}
        self.requests = []
        self.fault = lambda request: None
        self.tells_version = True
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                web._answer(self)

            def do_GET(self):
                web._answer(self)

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # Of those who did not wait for an answer.
        self._lock = threading.Lock()

    @property
    def place(self):
        return f"127.0.0.1:{self._server.server_address[1]}"

    def ranges(self):
        """The spans that were asked for, in order of their begin; none is asked for from now on."""
        found = sorted(request.span for request in self.requests if request.span)
        self.requests.clear()
        return found

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, handler):
        path = handler.path.partition("?")[0]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        request = Request(handler.command, path, (int(match[1]), int(match[2]) + 1) if match else None)
        with self._lock:
            self.requests.append(request)
        fault, content = self.fault(request), self.objects.get(path)
        if fault is None and content is None:
            fault = 404
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        begin, end = request.span or (0, len(content))
        handler.send_response(206 if request.span else 200)
        handler.send_header("Content-Length", str(len(content[begin:end])))
        handler.send_header("Accept-Ranges", "bytes")
        if request.span:
            handler.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        if self.tells_version:
            handler.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
        handler.end_headers()
        if handler.command == "GET":
            handler.wfile.write(content[begin : (begin + end) // 2 if fault == "half" else end])
            handler.close_connection = fault == "half"


class Bucket:
    """The objects of an ObjectStore below a prefix, `s3://bucket/PREFIX`."""

    def __init__(self, store, prefix):
        self._store = store
        self._prefix = prefix
        self.address = f"s3://{object_store.BUCKET}/{prefix}"

    def put(self, name, content):
        connection = http.client.HTTPConnection(*self._store.behind)
        path = urllib.parse.quote(f"/{object_store.BUCKET}/{self._prefix}/{name}")
        # Who it is must be said, to replace an object; moto does not verify that.
        who = f"AWS4-HMAC-SHA256 Credential={object_store.KEY}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host"
        connection.request("PUT", path, content, {"Authorization": f"{who}, Signature=0"})
        assert connection.getresponse().status == 200
        connection.close()

    def fetched(self):
        """The names of the objects that were read since the last call, as often as they were, sorted."""
        begin = f"/{object_store.BUCKET}/{self._prefix}/"
        paths = [urllib.parse.unquote(path) for method, path in self._store.requests if method == "GET"]
        self._store.requests.clear()
        return sorted(path.partition("?")[0].removeprefix(begin) for path in paths if path.startswith(begin))
