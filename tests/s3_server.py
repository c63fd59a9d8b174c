"""An S3 server on the loopback, which fails as real ones do: `python s3_server.py EVERY`.

Of its requests, each EVERYth is answered with 503, before or after it is carried out, and now and
then a connection is dropped, in the middle of an answer too. It prints its port.
"""

import itertools
import os
import random
import socket
import sys

# Moto would ask for the machine's own address.
os.environ["MOTO_S3_DEFAULT_KEY_BUFFER_SIZE"] = str(2**26)

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


class Faulty:
    """Answers some requests wrongly; the faults are drawn, so that they hit all kinds."""

    def __init__(self, app, every):
        self.app, self.every = app, every
        self.count, self.draw = itertools.count(1), random.Random(every)

    def __call__(self, environ, start_response):
        number = next(self.count)
        if not self.every or number % self.every:
            return self.app(environ, start_response)
        fault = self.draw.choice(["503", "503", "503 after", "drop", "drop after", "cut"])
        if fault.endswith("after"):  # carried out, but the answer is lost
            b"".join(self.app(environ, lambda *_: lambda _: None))
        if fault.startswith("503"):
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return [b""]
        if fault == "cut":
            return self.cut(environ, start_response)
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("dropped")

    def cut(self, environ, start_response):
        body = b"".join(self.app(environ, start_response))
        yield body[: len(body) // 2]
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionError("cut")


if __name__ == "__main__":
    app = Faulty(DomainDispatcherApplication(create_backend_app), int(sys.argv[1]))
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Quiet)
    print(server.port, flush=True)
    server.serve_forever()
