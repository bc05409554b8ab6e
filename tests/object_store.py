"""An object store on loopback, which fails on demand: S3 as moto has it, behind a proxy."""

import contextlib
import http.client
import logging
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest import mock

from fsspec.implementations.memory import MemoryFileSystem

BUCKET = "bucket"
KEY, SECRET = "AKIATFPIPETEST", "a-secret/that+nobody+may+see"


class ObjectStore:
    """S3 on loopback, with a bucket; a context manager.

    Attributes:
      env: by which s3fs finds it.
      fault: what the next requests meet: `fault(handler) -> bool`, which answers itself and gives True, or leaves it.
      requests: method and path of each that came.
    """

    def __enter__(self):
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.fault = lambda handler: False
        self.requests = []
        self.released = threading.Event()  # Until then `stalled` gives no answer.
        self._moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._moto.start()
        self.behind = self._moto.get_host_and_port()
        self._proxy = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": self}))
        self._proxy.daemon_threads = True
        threading.Thread(target=self._proxy.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._proxy.server_address[1]}"
        self.env = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        connection = http.client.HTTPConnection(*self.behind)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        return self

    def __exit__(self, *_):
        self.released.set()
        self._proxy.shutdown()
        self._proxy.server_close()
        self._moto.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def handle(self):
        with contextlib.suppress(ConnectionError):  # A process was killed.
            super().handle()

    def _handle(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.store.requests.append((self.command, self.path))
        with contextlib.suppress(ConnectionError):
            if not self.store.fault(self):
                self.answer(*self.passed_on())

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _handle

    def passed_on(self):
        """What the store behind answers: status, headers and content."""
        connection = http.client.HTTPConnection(*self.store.behind)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, self.body, headers)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        return response.status, response.getheaders(), content

    def answer(self, status, headers, content):
        self.send_response(status)
        lengths = [value for name, value in headers if name.lower() == "content-length"]
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", lengths[0] if self.command == "HEAD" and lengths else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


def unavailable(handler):
    """503, with a secret in its words, as a careless server would have it."""
    handler.answer(503, [], f"<Error><Code>SlowDown</Code><Message>{SECRET} {KEY}</Message></Error>".encode())
    return True


def half(handler):
    """Of objects that are read, half; as if that were all."""
    if handler.command != "GET" or "list-type" in handler.path:
        return False
    status, headers, content = handler.passed_on()
    handler.answer(status, headers, content[: len(content) // 2])
    return True


def stalled(handler):
    """No answer."""
    handler.store.released.wait(30)
    return True


class Died(BaseException):
    """Stands for the end of the process."""


@contextlib.contextmanager
def dying(place, is_done=False):
    """Within it the process dies at operation number `place` on `memory://`: before it, or when it is done.

    Gives the list of the operations so far.
    """
    names, lock = [], threading.RLock()

    def instead(name, original):
        def operation(*arguments, **options):
            with lock:  # In order, and none after its death.
                names.append(name)
                number = len(names) - 1
                if number < place:
                    return original(*arguments, **options)
                if number == place and is_done:
                    original(*arguments, **options)
                raise Died

        return operation

    with contextlib.ExitStack() as stack:
        for name in ("pipe_file", "cat_file", "info", "ls", "rm_file"):
            original = getattr(MemoryFileSystem, name)
            stack.enter_context(mock.patch.object(MemoryFileSystem, name, instead(name, original)))
        yield names
