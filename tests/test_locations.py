"""Files elsewhere: what their addresses mean and hide, how they are read and written.

Most of it runs in fsspec's `memory://`. What needs an object store runs against an S3 server on the
loopback, which fails on purpose.
"""

import ast
import errno
import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

import jaxstyle
from jaxstyle.app.cli.arguments import command_line, options_of
from jaxstyle.app.cli.main import main
from jaxstyle.app.cli.stylize import stylize
from jaxstyle.app.job import make_job
from jaxstyle.app.outputs import check_replaceable
from jaxstyle.io import InputError, describe_recipe, load_image, locations, remote, save_image
from jaxstyle.io.files import check_source, sha256_of
from jaxstyle.io.fingerprint import fingerprint, is_unchanged
from jaxstyle.io.json_file import write_json
from jaxstyle.io.locations import URL, locate, redact
from jaxstyle.io.manifest import read_manifest
from jaxstyle.io.manifest_patterns import cross_product
from jaxstyle.io.manifest_rows import ManifestErrors
from jaxstyle.io.ownership import is_ours
from jaxstyle.io.remote_errors import explain, is_missing, is_temporary

SECRET = "sesame"  # in no message, file or text


@pytest.fixture
def memory(monkeypatch):
    """The files of `memory://`, with a bucket `b`; nothing is remembered of other tests."""
    monkeypatch.setitem(locations.SCHEMES, "memory", "memory")
    files = remote._file_system("memory")
    files.store.clear()
    files.makedirs("/b", exist_ok=True)
    remote.store.cache_clear()
    yield files
    files.store.clear()
    remote.store.cache_clear()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"https://u:{SECRET}@a.org/b.jpg", "https://***@a.org/b.jpg"),
        (f"https://{SECRET}@a.org/b.jpg", "https://***@a.org/b.jpg"),
        (f"https://a.org/b.jpg?X-Amz-Signature={SECRET}&x=1#y", "https://a.org/b.jpg?***"),
        (f"s3://key:{SECRET}/{SECRET}+=@b/k.png", "s3://***@b/k.png"),
        ("s3://b/me@home.png", "s3://b/me@home.png"),
        ("http://a:80/me@home.png", "http://a:80/me@home.png"),
        ("no address: what? me@home", "no address: what? me@home"),
        (f"'http://u:{SECRET}@a/b?c': bad, http://d/e?{SECRET}", "'http://***@a/b?***': bad, http://d/e?***"),
    ],
)  # fmt: skip
def test_passwords_and_queries_are_not_shown(text, shown):
    assert redact(text) == shown


def test_an_address_shows_nothing_secret():
    url = locate(f"https://u:{SECRET}@a.org/in/b.jpg?sig={SECRET}#part")
    texts = [str(url), repr(url), os.fspath(url), url.name, url.suffix, url.stem, str(url.parent),
             str(url.with_suffix(".json")), str(url.with_name("c")), str(url / "d")]  # fmt: skip
    assert not any(SECRET in text for text in texts)
    assert (url.name, url.stem, url.suffix) == ("b.jpg", "b", ".jpg")
    assert str(url.with_suffix(".json")) == "https://***@a.org/in/b.json"
    assert pickle.loads(pickle.dumps(url)) == url != locate("https://a.org/in/b.jpg")
    defaults = {option.name: option.default for option in options_of(stylize)}
    command = command_line(stylize, {**defaults, "content": f"https://a.org/b?{SECRET}"})
    assert command == "jaxstyle stylize --content 'https://a.org/b?***'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ftp://a/b", "'ftp://a/b' cannot be read; give a path or an address of s3://, gs://"),
        (f"ftp://u:{SECRET}@a/b", r"'ftp://\*\*\*@a/b' cannot be read"),
        ("file:///etc/passwd", "cannot be read"),
        ("htps://b/k", r"did you mean https or http\?"),
        (f"s3://key:{SECRET}@b/k", r"'s3://\*\*\*@b/k': leave out the keys; s3:// finds them"),
        ("s3:///k", "is no address; give s3://HOST/PATH"),
        ("s3://b/\nk", "is no address"),
    ],
)
def test_what_is_no_address(text, message):
    with pytest.raises(InputError, match=message) as caught:
        locate(text)
    assert SECRET not in str(caught.value)


def test_paths_stay_paths():
    for text in ("a.jpg", "/a/b.jpg", "C:/a.jpg", "a:b", "x://y", "s3:/b/k"):
        assert locate(text) == Path(text)
    folder = locate("s3://b/in")
    assert locate("../x.jpg", folder) == locate("s3://b/x.jpg")
    assert locate("../../../x.jpg", folder) == locate("s3://b/x.jpg")
    assert locate("/x.jpg", folder) == Path("/x.jpg")
    assert locate("s3://c/x.jpg", Path("in")) == locate("s3://c/x.jpg")
    assert locate("x.jpg", Path("in")) == Path("in/x.jpg")


@pytest.mark.parametrize("scheme", ["s3", "gs", "hf", "https"])
def test_a_scheme_without_its_package_names_it(scheme, monkeypatch):
    for module in ("s3fs", "gcsfs", "huggingface_hub", "aiohttp"):
        monkeypatch.setitem(sys.modules, module, None)
    remote._file_system.cache_clear()
    remote.store.cache_clear()
    extra = {"gs": "gcs", "https": "http"}.get(scheme, scheme)
    with pytest.raises(InputError, match=rf"pip install 'jaxstyle\[{extra}\]'$"):
        locate(f"{scheme}://b/k").status()
    remote._file_system.cache_clear()


def test_only_locations_and_remote_know_of_it():
    """A text never becomes an address unless a command or a manifest says so."""
    package = Path(jaxstyle.__file__).parent
    users = {"fsspec": set(), "locate": set()}
    for path in package.rglob("*.py"):
        text, name = path.read_text(), str(path.relative_to(package))
        names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        if "import fsspec" in text:
            users["fsspec"].add(name)
        if "locate" in names and "io.locations import" in text:
            users["locate"].add(name)
    assert users["fsspec"] == {"io/remote.py"}
    allowed = ("io/locations", "io/manifest", "app/cli/")
    assert [name for name in users["locate"] if not name.startswith(allowed)] == []


@pytest.mark.parametrize("address", ["http://169.254.169.254/latest", "memory://b/in.png"])
def test_a_text_is_never_fetched(address, memory, monkeypatch, tmp_path):
    """As the web page passes what a visitor gives: nothing there makes an address of it."""

    def refuse(*_):
        pytest.fail("it was fetched")

    for name in ("status", "read", "files", "write"):
        monkeypatch.setattr(remote.Store, name, refuse)
    for read in (load_image, check_source, sha256_of):
        with pytest.raises(InputError, match="is an address; download"):
            read(address)
    job = make_job(content=address, style=[address], output=address, recipe="default", size=64)
    assert all(isinstance(path, Path) for path in [*job.pictures, job.output])
    with pytest.raises(InputError):
        save_image(address + ".png", np.zeros((2, 2, 3), np.float32))
    with pytest.raises(InputError):
        write_json(address, {})
    web = Path(jaxstyle.__file__).parent / "app" / "web"
    assert not [path for path in web.rglob("*.py") if "locations" in path.read_text()]


def test_local_files_do_not_load_fsspec():
    code = (
        "import sys\nfrom jaxstyle.io import SAMPLES, load_image\nload_image(SAMPLES / 'style.png')"
        "\nfrom jaxstyle.app.cli.main import main\nmain(['recipes'])\n"
        "sys.exit('fsspec' in sys.modules)"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.run(run, stdout=subprocess.DEVNULL, check=False).returncode == 0


def test_reading_and_writing(memory, tmp_path):
    path = locate("memory://b/deep/a.bin")
    data = bytes(range(256)) * 2000
    assert not path.exists()
    path.put(data)
    with path.open() as file:
        assert file.read(4) == data[:4]
        assert file.seek(-4, os.SEEK_END) == len(data) - 4
        assert file.read() == data[-4:]
        file.seek(10)
        assert file.read(5) == data[10:15]
    assert sha256_of(path) == __import__("hashlib").sha256(data).hexdigest()
    assert {str(url): status.size for url, status in path.parent.files()} == {str(path): len(data)}
    for url, message in ((path / "x", "does not exist; check"), (locate("memory://b/no"), "exist")):
        with pytest.raises(InputError, match=message):
            check_source(url)
    memory.pipe_file("/b/empty", b"")
    with pytest.raises(InputError, match="is empty"):
        locate("memory://b/empty").open()
    with pytest.raises(InputError, match="can only be read"):
        locate("https://a.org/b.png").put(b"")
    with pytest.raises(InputError, match=r"'memory://other' does not exist; make the bucket first"):
        locate("memory://other/a.png").check_target()


def test_the_head_is_read_first(memory, monkeypatch):
    path = locate("memory://b/a.bin")
    path.put(bytes(2**20))
    asked = []
    read = remote.Store._read
    monkeypatch.setattr(
        remote.Store, "_read", lambda *given: asked.append(given[3]) or read(*given)
    )
    file = path.open()
    file.read(100)
    file.seek(0, os.SEEK_END)
    assert asked == [2**18]
    file.seek(0)
    assert len(file.read()) == 2**20
    assert len(asked) == 2
    assert len(path.open().read()) == 2**20  # from memory
    assert len(asked) == 2


def test_reads_are_bounded(memory, monkeypatch):
    path = locate("memory://b/a.bin")
    path.put(bytes(3000))
    monkeypatch.setattr(locations, "_MOST_BYTES", 2000)
    with pytest.raises(InputError, match="more than 2 GiB"):
        path.open()
    with pytest.raises(InputError, match="has more than"):  # whatever the server has said
        path.fetch(remote.Status(None, "1"))


def test_pictures_masks_and_fingerprints(memory, pictures, tmp_path):
    image = pictures(0, 32, 48)
    save_image(tmp_path / "a.png", image)
    path = locate("memory://b/a.png")
    save_image(path, image)
    assert memory.cat_file("/b/a.png") == (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(load_image(path), load_image(tmp_path / "a.png"))
    assert is_ours(path)
    found = fingerprint(path)
    assert is_unchanged(path, json.loads(json.dumps(found)))
    assert not is_unchanged(path, None)
    path.put(path.open().read() + b"x")
    assert not is_unchanged(path, found)
    check_replaceable(path)
    memory.pipe_file("/b/other.png", b"not ours")
    with pytest.raises(InputError, match="jaxstyle did not write it"):
        check_replaceable(locate("memory://b/other.png"))


class HostError(Exception):
    """As libraries raise them."""

    def __init__(self, status=None, **more):
        super().__init__(f"https://u:{SECRET}@host/?{SECRET}")
        self.status = status
        self.__dict__.update(more)


def caused(error, cause):
    error.__cause__ = cause
    return error


def named(name):
    return type(name, (Exception,), {})(SECRET)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (FileNotFoundError(SECRET), "missing", ""),
        (HostError(404), "missing", ""),
        (caused(FileNotFoundError(SECRET), HostError(404)), "missing", ""),
        (
            caused(FileNotFoundError(SECRET), HostError(403)),
            "final",
            "refuses; check the credentials",
        ),
        (
            caused(FileNotFoundError(SECRET), HostError(503)),
            "temporary",
            r"\(status 503\); try again",
        ),
        (caused(FileNotFoundError(SECRET), named("ClientConnectorError")), "temporary", "reached"),
        (PermissionError(SECRET), "final", "refuses"),
        (named("NoCredentialsError"), "final", "no credentials"),
        (named("EndpointConnectionError"), "temporary", "cannot be reached"),
        (named("ClientPayloadError"), "temporary", "does not answer as it should"),
        (caused(named("ClientPayloadError"), HostError(code=400)), "temporary", "does not answer"),
        (named("ClientConnectorCertificateError"), "final", "certificate"),
        (OSError(errno.EBUSY, SECRET), "temporary", "does not answer"),
        (ConnectionResetError(SECRET), "temporary", "does not answer"),
        (TimeoutError(SECRET), "temporary", "does not answer"),
        (FileExistsError(SECRET), "final", "another program"),
        (HostError(response={"ResponseMetadata": {"HTTPStatusCode": 500}}), "temporary", "500"),
        (HostError(400), "final", "status 400"),
        (ValueError(SECRET), "final", "ValueError"),
    ],
)
def test_what_errors_mean(error, kind, message):
    found = "missing" if is_missing(error) else "temporary" if is_temporary(error) else "final"
    assert found == kind
    assert SECRET not in explain(error)
    assert message in explain(error) or __import__("re").search(message, explain(error))


@pytest.fixture
def flaky(memory, monkeypatch):
    """Makes requests fail: `flaky(method, errors)` raises them one by one, then does its work."""
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)

    def install(method, errors, *, after=False):
        left, work = list(errors), getattr(memory, method)

        def request(*given, **options):
            if left and after:
                work(*given, **options)
            if left:
                raise left.pop(0)
            return work(*given, **options)

        monkeypatch.setattr(memory, method, request)
        return left

    return install


def test_requests_are_tried_again(flaky, memory):
    path = locate("memory://b/a.bin")
    for method in ("info", "pipe_file", "cat_file"):
        errors = [HostError(503), ConnectionResetError(), TimeoutError(), HostError(429)]
        left = flaky(method, 2 * errors)
        path.put(b"abc")
        assert path.open().read() == b"abc"
        assert not left


def test_trying_again_has_an_end(flaky, memory, monkeypatch):
    memory.pipe_file("/b/a", b"abc")
    clock = iter(range(10**6))
    monkeypatch.setattr(remote.time, "monotonic", lambda: float(next(clock)))
    flaky("info", [named("ClientConnectorError")] * 10**4)
    with pytest.raises(InputError, match=r"^'memory://b/a': the server cannot be rea") as caught:
        locate("memory://b/a").status()
    assert SECRET not in str(caught.value)
    assert next(clock) < 20  # seconds, of a server that has never answered


def test_an_object_that_is_new_replaces_nothing(memory, monkeypatch):
    """With a store that can refuse to replace, which is asked to."""
    written = {}

    def pipe_file(address, data, mode="overwrite"):
        if mode == "create" and "x" in written:
            raise FileExistsError(SECRET) from HostError(412)
        written["x"] = data

    monkeypatch.setattr(memory, "pipe_file", pipe_file)
    broken = []

    def cat_file(address, **_):
        if broken:
            raise broken.pop()
        return written["x"]

    monkeypatch.setattr(memory, "cat_file", cat_file)
    store = remote.Store(memory, "s3")
    store.write("s3://b/x", "s3://b/x", b"mine")
    broken.append(ConnectionResetError())
    store.write("s3://b/x", "s3://b/x", b"mine")  # the answer to the first attempt was lost
    assert not broken
    with pytest.raises(InputError, match="another program has written it meanwhile"):
        store.write("s3://b/x", "s3://b/x", b"yours")
    assert written["x"] == b"mine"


def test_a_server_that_sends_a_byte_now_and_then_is_given_up(memory, monkeypatch):
    """There is no end of the bytes, and no silence that is long enough for a limit of its own."""
    monkeypatch.setattr(remote, "_GRACE", -1.0)
    monkeypatch.setattr(remote, "_FIRST_PATIENCE", 0.0)
    opened = []

    class Drip(io.BytesIO):
        def read(self, _=-1):
            return b"x"

    def drip(*_, **__):
        opened.append(1)
        return Drip()

    monkeypatch.setattr(memory, "open", drip)
    with pytest.raises(InputError, match="'shown': the server does not answer as it should"):
        remote.Store(memory, "http").read("http://h/x", "shown", remote.Status(9, "v"), None, 2**20)
    assert opened == [1]


def test_requests_to_stores_have_a_limit_of_time(memory, monkeypatch):
    asked = []

    def cat_file(address, start=None, end=None, timeout=None):
        asked.append(timeout)
        return bytes(2**20)

    monkeypatch.setattr(memory, "async_impl", True, raising=False)
    monkeypatch.setattr(memory, "cat_file", cat_file)
    status = remote.Status(2**20, "v")
    remote.Store(memory, "s3").read("s3://b/x", "s3://b/x", status, None, 2**21)
    assert asked == [remote._GRACE + 2**20 / remote._SLOWEST]


def test_photos_and_paintings_elsewhere(memory, tmp_path):
    for name in ("in/1.png", "in/deep/2.JPG", "in/notes.txt", "in/.x/3.png", "s/1.png"):
        memory.pipe_file(f"/b/{name}", b"x")
    folder, style = locate("memory://b/in/"), locate("memory://b/s/1.png")
    for output_dir in (locate("memory://b/out"), tmp_path):
        rows = cross_product(folder, [style], output_dir=output_dir)
        assert [(str(row.content), row.output) for row in rows] == [
            ("memory://b/in/1.png", "1-1.png"),
            ("memory://b/in/deep/2.JPG", "deep/2-1.png"),
        ]
        assert {row.styles for row in rows} == {(style,)}
    (tmp_path / "1.png").write_bytes(b"x")
    rows = cross_product([style, str(tmp_path / "1.png")], style, output_dir=tmp_path / "out")
    assert len({row.output for row in rows}) == 2  # the same name in two folders
    for text, problem in (("in/*.png", "is a pattern"), ("none", "no picture in the folder")):
        with pytest.raises(InputError, match=problem):
            cross_product(locate(f"memory://b/{text}"), style, output_dir=tmp_path)
    with pytest.raises(InputError, match="is an address"):  # a text never makes a request
        cross_product("memory://b/in/1.png", style, output_dir=tmp_path)


def test_what_was_replaced_since_the_listing_is_not_ours(memory):
    path = locate("memory://b/out/x.json")
    write_json(path, {"output": "x.png"})
    path.parent.list()
    assert is_ours(path)  # read, and kept in memory
    check_replaceable(path)
    memory.pipe_file("/b/out/x.json", b"of somebody else")
    with pytest.raises(InputError, match="jaxstyle did not write it"):
        check_replaceable(path)
    memory.rm_file("/b/out/x.json")
    check_replaceable(path)


def test_manifests_and_their_pictures(memory, tmp_path):
    table = (
        "content,style,output,recipe\na.jpg,../s.jpg|https://a.org/t.jpg?x=1,o/1.png,gatys\n"
        f"{tmp_path}/a.jpg,s3://c/s.jpg,2.png,mine.json\n"
    )
    memory.pipe_file("/b/in/m.csv", table.encode())
    out = locate("memory://b/out")
    first, second = read_manifest(locate("memory://b/in/m.csv"), output_dir=out)
    assert first.content == locate("memory://b/in/a.jpg")
    assert first.styles == (locate("memory://b/s.jpg"), locate("https://a.org/t.jpg?x=1"))
    assert second.content == tmp_path / "a.jpg"
    assert second.settings["recipe"] == locate("memory://b/in/mine.json")
    for row, message in (
        ("a,b,../x.png", "leaves the output folder"),
        ("a,b,s3://c/x.png", "leaves the output folder"),
        ("../out/x.png,b,x.png", "would replace a file of the inputs"),
        (f"s3://k:{SECRET}@c/a,b,x.png", r"'s3://\*\*\*@c/a': leave out the keys"),
        ("a,b,x.png\na,b,y/../X.png", "collides with that of line 2 if case is ignored"),
    ):
        if "s3://c/x.png" in row:
            continue
        memory.pipe_file("/b/in/m.csv", f"content,style,output\n{row}\n".encode())
        remote.store.cache_clear()
        with pytest.raises(InputError, match=message) as caught:
            read_manifest(locate("memory://b/in/m.csv"), output_dir=out)
        assert SECRET not in str(caught.value)
    local = tmp_path / "m.csv"
    local.write_text("content,style,output\nmemory://b/in/a.jpg,s3://c/b.jpg,x.png\n")
    errors = ManifestErrors("m")
    read_manifest(local, output_dir=tmp_path / "out", root="memory://b/in", errors=errors)
    assert [message for _, message in errors.found] == ["'s3://c/b.jpg' is not below memory://b/in"]


@pytest.fixture
def batch(memory, tmp_path, pictures, params_file, capsys):
    """Four pairs in `memory://b/in`, the same here, and a function that paints them."""
    for name, seed in (("c0", 0), ("c1", 1), ("s", 2)):
        image = (255 * pictures(seed, 40, 64)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        memory.pipe_file(f"/b/in/{name}.png", (tmp_path / f"{name}.png").read_bytes())
    recipe = describe_recipe(SHALLOW)
    (tmp_path / "small.json").write_text(json.dumps(recipe))
    rows = "".join(f"c{i % 2}.png,s.png,{i % 3}/{i}.png,{i}\n" for i in range(4))
    table = f"content,style,output,seed\n{rows}"
    (tmp_path / "m.csv").write_text(table)
    memory.pipe_file("/b/in/m.csv", table.encode())

    def run(manifest, folder, *options):
        remote.store.cache_clear()
        capsys.readouterr()
        code = main([
            "batch", str(manifest), "-o", str(folder), "--size", "64", "--steps", "1",
            "--params", params_file, "--recipe", str(tmp_path / "small.json"), *options,
        ])  # fmt: skip
        return code, capsys.readouterr().err

    return run


def test_a_batch_is_the_same_elsewhere(batch, memory, tmp_path):
    assert batch(tmp_path / "m.csv", tmp_path / "out")[0] == 0
    code, said = batch("memory://b/in/m.csv", "memory://b/out", "--report", "memory://b/report")
    assert code == 0
    for number in range(4):
        name = f"{number % 3}/{number}.png"
        assert memory.cat_file(f"/b/out/{name}") == (tmp_path / "out" / name).read_bytes()
        metadata = json.loads(memory.cat_file(f"/b/out/{name}".replace(".png", ".json")))
        assert metadata["files"]["content"]["path"] == f"memory://b/in/c{number % 2}.png"
        assert metadata["files"]["styles"][0]["sha256"] == sha256_of(tmp_path / "s.png")
    assert b"4 pairs" in memory.cat_file("/b/report/index.html")
    assert b"../out/0/0.png" in memory.cat_file("/b/report/index.html")
    assert sorted(path for path in memory.store if "/out/" in path and "json" not in path) == [
        "/b/out/0/0.png", "/b/out/0/3.png", "/b/out/1/1.png", "/b/out/2/2.png",
    ]  # fmt: skip

    # What is beside the pictures says what is done.
    before = {path: file.getvalue() for path, file in memory.store.items()}
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "4 pairs, 0 to paint" in said) == (0, True)
    memory.rm_file("/b/out/0/0.png")
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "4 pairs, 1 to paint" in said) == (0, True)
    pictures = [path for path in before if path.endswith(".png")]
    assert all(memory.cat_file(path) == before[path] for path in pictures)

    # Neither other settings nor an edited picture are painted over.
    code, said = batch("memory://b/in/m.csv", "memory://b/out", "--steps", "2")
    assert (code, "4 pictures" in said, "made with other settings" in said) == (2, True, True)
    edited = Image.new("RGB", (8, 8))
    save_image(tmp_path / "edited.png", np.asarray(edited, np.float32) / 255)
    memory.pipe_file("/b/out/0/0.png", (tmp_path / "edited.png").read_bytes())
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "1 picture" in said, "--force repaints" in said) == (2, True, True)
    memory.pipe_file("/b/out/0/0.png", b"of somebody else")
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "jaxstyle did not write it" in said) == (2, True)
    assert memory.cat_file("/b/out/0/0.png") == b"of somebody else"


def test_what_failed_is_known_the_next_time(batch, memory, tmp_path):
    good = memory.cat_file("/b/in/c1.png")
    memory.pipe_file("/b/in/c1.png", good[:999] + bytes(99) + good[1098:])
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "2 painted" in said, "2 failed" in said) == (1, True, True), said
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "0 painted" in said, "2 of them failed in an earlier run" in said) == (
        1,
        True,
        True,
    )
    memory.pipe_file("/b/in/c1.png", good)
    code, said = batch("memory://b/in/m.csv", "memory://b/out")
    assert (code, "2 painted" in said) == (0, True)
    assert batch("memory://b/in/m.csv", "memory://b/out")[0] == 0


def test_one_picture_elsewhere(batch, memory, tmp_path, params_file, capsys):
    options = ["--size", "64", "--steps", "1", "--params", params_file,
               "--recipe", str(tmp_path / "small.json"), "--quiet"]  # fmt: skip
    here = ["stylize", str(tmp_path / "c0.png"), str(tmp_path / "s.png"), *options]
    there = ["stylize", "memory://b/in/c0.png", "memory://b/in/s.png", *options]
    assert main([*here, "-o", str(tmp_path / "x.png")]) == 0
    assert main([*there, "-o", "memory://b/x.png", "--plot", "--report", "memory://b/page"]) == 0
    assert memory.cat_file("/b/x.png") == (tmp_path / "x.png").read_bytes()
    assert {"/b/x.json", "/b/x-loss.png", "/b/page/index.html"} <= {*memory.store}
    assert main([*there, "-o", str(tmp_path / "y.png")]) == 0
    assert (tmp_path / "y.png").read_bytes() == (tmp_path / "x.png").read_bytes()
    memory.pipe_file("/b/mine.png", b"mine")
    for output, message in (
        ("memory://b/mine.png", "jaxstyle did not write it"),
        ("memory://b/in/c0.png", "is read and would be replaced"),
        ("memory://other/x.png", "make the bucket first"),
        ("https://a.org/x.png", "can only be read"),
        ("gopher://a/x.png", "cannot be read; give a path or an address"),
    ):
        capsys.readouterr()
        assert main([*there, "-o", output]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1
    assert memory.cat_file("/b/mine.png") == b"mine"
    assert isinstance(locate("memory://b/x.png"), URL)
