"""What each library takes of a Buffer: tried, for the table of the page on memory.

`python -m tests.memory.libraries` prints the table.
"""

import contextlib
import http.server
import importlib
import io
import json
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass

import bufpool_workers as bp

CONTENT = b'{"a": [1, 2, 3]}'  # 16 bytes that are JSON, text and four float32

FORMS = {
    "`buf`": lambda buf: buf,
    "`buf[:]`": lambda buf: buf[:],
    "`bytes(buf)`": bytes,
    "`np.frombuffer(buf, np.uint8)`": lambda buf: _array(buf),
}


def _array(buf):
    import numpy as np  # noqa: PLC0415

    return np.frombuffer(buf, np.uint8)


@dataclass(frozen=True)
class Use:
    """One call, as the table shows it; `x` stands for the buffer."""

    name: str
    module: str
    call: str
    try_it: Callable  # takes the module and x; CONTENT comes out if it did the right thing


USES: list[Use] = []


def use(name, call, *, module=None):
    def add(function):
        USES.append(Use(name, module or name.lower(), call, function))
        return function

    return add


@use("numpy", "numpy.frombuffer(x, dtype)")
def _(numpy, x):
    return numpy.frombuffer(x, numpy.uint8).tobytes()


@use("numpy", "numpy.copyto(numpy.frombuffer(x, dtype), array)")
def _(numpy, x):
    numpy.copyto(numpy.frombuffer(x, numpy.uint8), numpy.frombuffer(CONTENT[::-1], numpy.uint8))
    return bytes(x)[::-1]


@use("pandas", "pandas.Series(x)")
def _(pandas, x):
    return pandas.Series(x).to_numpy().tobytes()


@use("pandas", "pandas.read_json(io.BytesIO(x), typ='series')")
def _(pandas, x):
    return CONTENT if pandas.read_json(io.BytesIO(x), typ="series").a == [1, 2, 3] else None


@use("pyarrow", "pyarrow.py_buffer(x)")
def _(pyarrow, x):
    return pyarrow.py_buffer(x).to_pybytes()


@use("Pillow", "Image.frombuffer(mode, size, x)", module="PIL.Image")
def _(image, x):
    return image.frombuffer("L", (4, 4), x, "raw", "L", 0, 1).tobytes()


@use("OpenCV", "cv2.bitwise_not(x)", module="cv2")
def _(cv2, x):
    return cv2.bitwise_not(cv2.bitwise_not(x)).tobytes()


@use("zstandard", "ZstdCompressor().compress(x)")
def _(zstandard, x):
    return zstandard.ZstdDecompressor().decompress(zstandard.ZstdCompressor().compress(x))


@use("lz4", "lz4.frame.compress(x)", module="lz4.frame")
def _(frame, x):
    return frame.decompress(frame.compress(x))


@use("h5py", "dataset.write_direct(x), read_direct(x)")
def _(h5py, x):
    with h5py.File("x", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("data", (len(CONTENT),), "u1")
        dataset.write_direct(x)
        dataset.read_direct(x)
        return dataset[:].tobytes()


@use("soundfile", "SoundFile.buffer_write(x, dtype), buffer_read_into(x, dtype)")
def _(soundfile, x):
    raw = io.BytesIO()
    form = {"samplerate": 8000, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    with soundfile.SoundFile(raw, "w", **form) as sound:
        sound.buffer_write(x, "int16")
    raw.seek(0)
    with soundfile.SoundFile(raw, "r", **form) as sound:
        sound.buffer_read_into(x, "int16")
    return bytes(x)


@use("sqlite3", "connection.execute('insert ... values (?)', (x,))")
def _(sqlite3, x):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        return connection.execute("select ?", (x,)).fetchone()[0]


@use("json", "json.loads(x)")
def _(json_module, x):
    return CONTENT if json_module.loads(x) == json.loads(CONTENT) else None


@use("orjson", "orjson.loads(x)")
def _(orjson, x):
    return CONTENT if orjson.loads(x) == json.loads(CONTENT) else None


@use("msgpack", "msgpack.packb(x)")
def _(msgpack, x):
    return msgpack.unpackb(msgpack.packb(x))


@use("msgpack", "msgpack.Unpacker().feed(x)")
def _(msgpack, x):
    unpacker = msgpack.Unpacker()
    unpacker.feed(x)
    return CONTENT if unpacker.unpack() == CONTENT[0] else None  # a small int is itself


@use("redis", "client.set(key, x)")
def _(redis, x):
    # what it sends; nothing is connected yet
    sent = b"".join(map(bytes, redis.Connection().pack_command("SET", "key", x)))
    return CONTENT if CONTENT in sent else sent


@use("boto3", "client.put_object(Bucket=..., Key=..., Body=x)")
def _(boto3, x):
    with server() as (url, bodies):
        session = boto3.Session("a", "b", region_name="c")
        client = session.client("s3", endpoint_url=url, config=_no_retry())
        client.put_object(Bucket="bucket", Key="key", Body=x)
    return bodies[0]


def _no_retry():
    from botocore.config import Config  # noqa: PLC0415

    return Config(
        retries={"max_attempts": 0},
        request_checksum_calculation="when_required",
        s3={"addressing_style": "path"},
    )


@use("requests", "requests.post(url, data=x)")
def _(requests, x):
    with server() as (url, bodies):
        requests.post(url, data=x, timeout=10)
    return bodies[0]


@use("httpx", "httpx.post(url, content=x)")
def _(httpx, x):
    with server() as (url, bodies):
        httpx.post(url, content=x, trust_env=False)
    return bodies[0]


@use("asyncio", "writer.write(x)")
def _(module, x):
    async def send():
        left, right = socket.socketpair()
        reader, _writer = await module.open_connection(sock=left)
        _, writer = await module.open_connection(sock=right)
        try:
            writer.write(x)
            await writer.drain()
            return await module.wait_for(reader.readexactly(len(CONTENT)), 10)
        finally:
            writer.close()
            _writer.close()

    return module.run(send())


@use("asyncio", "loop.sock_recv_into(socket, x)")
def _(module, x):
    async def receive():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.sendall(CONTENT)
            x[:] = bytes(len(CONTENT))
            await module.get_running_loop().sock_recv_into(left, x)
        return bytes(x)

    return module.run(receive())


@use("Django", "HttpResponse(x)", module="django.http")
def _(http_module, x):
    from django.conf import settings  # noqa: PLC0415

    if not settings.configured:
        settings.configure()
    return http_module.HttpResponse(x).content


@use("Flask", "Response(x)", module="flask")
def _(flask, x):
    return flask.Response(x).get_data()


@use(
    "cryptography",
    "AESGCM(key).encrypt(nonce, x, aad)",
    module="cryptography.hazmat.primitives.ciphers.aead",
)
def _(aead, x):
    cipher = aead.AESGCM(bytes(32))
    return cipher.decrypt(bytes(12), cipher.encrypt(bytes(12), x, None), None)


@use(
    "cryptography",
    "encryptor.update_into(data, x)",
    module="cryptography.hazmat.primitives.ciphers",
)
def _(ciphers, x):
    key = ciphers.algorithms.AES256(bytes(32))
    sealed = ciphers.Cipher(key, ciphers.modes.CTR(bytes(16))).encryptor().update(CONTENT)
    ciphers.Cipher(key, ciphers.modes.CTR(bytes(16))).encryptor().update_into(sealed, x)
    return bytes(x)


@use("hashlib", "hashlib.sha256(x)")
def _(hashlib, x):
    return CONTENT if hashlib.sha256(x).digest() == hashlib.sha256(CONTENT).digest() else None


@contextlib.contextmanager
def server():
    """Serve HTTP on loopback; yield its address and a list of the bodies that come in."""
    bodies = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            bodies.append(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.close_connection = True

        do_PUT = do_POST  # noqa: N815

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}", bodies
        finally:
            listening.shutdown()
            thread.join()


def form_taken(one: Use) -> str:
    """Return the first of FORMS that the call takes, and takes right."""
    module = importlib.import_module(one.module)
    wrong = []
    for form, make in FORMS.items():
        with bp.buffer(len(CONTENT)) as buf:
            buf[:] = CONTENT
            try:
                came_out = one.try_it(module, make(buf))
            except Exception as error:  # noqa: BLE001 - refused, in whatever words
                wrong.append(f"{form}: {error!r}")
                continue
            if came_out == CONTENT:
                return form
            wrong.append(f"{form}: {came_out!r}")
    raise AssertionError(f"{one.name}, {one.call}: {wrong}")


def table(uses=None) -> list[str]:
    """Return the rows of the table in the page on memory."""
    return [f"| {one.name} | `{one.call}` | {form_taken(one)} |" for one in uses or USES]


if __name__ == "__main__":
    sys.stdout.write("\n".join(["| library | call | `x` is |", "|---|---|---|", *table(), ""]))
