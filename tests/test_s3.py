"""A batch on an S3 server of the loopback, which fails at every fifth request."""

import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

from jaxstyle.app.cli.main import main
from jaxstyle.io import describe_recipe, remote
from jaxstyle.io.locations import locate

for module in ("s3fs", "moto", "flask"):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"no {module}: pip install 'jaxstyle[dev-urls]'", allow_module_level=True)

import s3fs  # noqa: E402

# The client and the server leave sockets to the garbage collector.
pytestmark = [pytest.mark.urls, pytest.mark.filterwarnings("default")]

PAIRS = 12


def forget():
    """Forgets the clients, which know the address of a server."""
    s3fs.S3FileSystem.clear_instance_cache()
    remote._file_system.cache_clear()
    remote.store.cache_clear()


@pytest.fixture
def server(monkeypatch):
    """Starts the server with a share of faults, and lets this process speak to it."""
    started = []

    def start(every):
        command = [sys.executable, str(Path(__file__).with_name("s3_server.py")), str(every)]
        # Its account is of nobody; without a proxy, nothing leaves the loopback.
        settings = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "sesame",
                    "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, **settings}
        )
        started.append(process)
        port = int(process.stdout.readline())
        settings["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        forget()

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    forget()


def make_bucket():
    files = s3fs.S3FileSystem(skip_instance_cache=True)
    for _ in range(20):  # each request may fail
        with contextlib.suppress(Exception):
            files.mkdir("bucket")
        with contextlib.suppress(Exception):
            files.invalidate_cache()
            if files.exists("bucket"):
                return
    raise AssertionError("there is no bucket")


@pytest.mark.parametrize("every", [0, 5])
def test_a_batch_on_s3_is_that_of_this_machine(
    every, server, tmp_path, pictures, params_file, capsys
):
    server(every)
    make_bucket()
    rows = "".join(f"c{i % 2}.png,s.png,{i % 3}/{i}.png,{i}\n" for i in range(PAIRS))
    table = f"content,style,output,seed\n{rows}"
    (tmp_path / "m.csv").write_text(table)
    locate("s3://bucket/in/m.csv").put(table.encode())
    for name, seed in (("c0", 0), ("c1", 1), ("s", 2)):
        image = (255 * pictures(seed, 40, 64)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"{name}.png")
        locate(f"s3://bucket/in/{name}.png").put((tmp_path / f"{name}.png").read_bytes())
    (tmp_path / "small.json").write_text(json.dumps(describe_recipe(SHALLOW)))

    def run(manifest, folder):
        remote.store.cache_clear()
        capsys.readouterr()
        options = ["--size", "64", "--steps", "1", "--params", params_file, "--batch-size", "4"]
        recipe = ["--recipe", str(tmp_path / "small.json")]
        code = main(["batch", manifest, "-o", folder, *options, *recipe])
        said = capsys.readouterr().err
        assert "sesame" not in said
        return code, said

    code, said = run("s3://bucket/in/m.csv", "s3://bucket/out")
    assert (code, f"{PAIRS} painted" in said) == (0, True), said
    code, said = run("s3://bucket/in/m.csv", "s3://bucket/out")
    assert (code, f"{PAIRS} pairs, 0 to paint" in said) == (0, True), said
    assert run(str(tmp_path / "m.csv"), str(tmp_path / "out"))[0] == 0
    found = {str(url): url for url, _ in locate("s3://bucket/out").files()}
    names = [f"{i % 3}/{i}" for i in range(PAIRS)]
    expected = {f"s3://bucket/out/{name}{end}" for name in names for end in (".png", ".json")}
    assert set(found) == expected
    for name in names:
        with found[f"s3://bucket/out/{name}.png"].open() as file:
            assert file.read() == (tmp_path / "out" / f"{name}.png").read_bytes()


def test_what_is_missing_is_said_in_a_line(server, capsys):
    server(0)
    make_bucket()
    for manifest, message in (
        ("s3://nope/m.csv", "'s3://nope"),
        ("s3://bucket/none.csv", "'s3://bucket/none.csv' does not exist; check the address"),
    ):
        assert main(["batch", manifest, "-o", "s3://bucket/out"]) == 2
        said = capsys.readouterr().err
        assert message in said
        assert len(said.splitlines()) == 1
