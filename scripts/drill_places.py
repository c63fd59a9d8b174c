"""Where a round of `drill_ray` has its files: in folders, or on an S3 server that fails."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SERVER = Path(__file__).parents[1] / "tests" / "s3_server.py"
EVERY = 5  # of so many requests of the server, one fails


class File(NamedTuple):
    """What is known of a file."""

    version: Any  # another one whenever it is written
    md5: str


class Disk:
    """Inputs and outputs of a round in folders of this machine."""

    def __init__(self, folder: Path) -> None:
        self.start, self._folder = str(folder), folder
        shutil.rmtree(folder / "out", ignore_errors=True)

    def recorded(self) -> list[str]:
        """Returns the outputs that the journal names."""
        return outputs_in(self._folder / "out" / "journal.jsonl")

    def files(self) -> dict[str, File]:
        """Returns all outputs."""
        return {
            path.name: File(
                path.stat().st_mtime_ns,
                md5_of(path),
            )
            for path in (self._folder / "out").iterdir()
            if path.suffix not in (".jsonl", ".lock")
        }

    def close(self) -> str:
        """Does nothing."""
        return ""


class Bucket:
    """Inputs and outputs of a round on a server that fails."""

    def __init__(self, folder: Path) -> None:
        import boto3

        self.start, self._folder = "s3://bucket", folder
        os.environ |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "sesame",
                       "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1"}  # fmt: skip
        call = [sys.executable, str(SERVER), str(EVERY)]
        self._server = subprocess.Popen(call, stdout=subprocess.PIPE, text=True)  # noqa: S603
        assert self._server.stdout is not None  # noqa: S101  it is a pipe
        os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{int(self._server.stdout.readline())}"
        self._client = boto3.client("s3")
        (folder / "progress").unlink(missing_ok=True)
        # A bucket with versions keeps each put.
        own = {"Bucket": "bucket"}
        insist(
            lambda: (
                "bucket" in str(self._client.list_buckets()) or self._client.create_bucket(**own)
            )
        )
        enabled = {"Status": "Enabled"}
        insist(lambda: self._client.put_bucket_versioning(**own, VersioningConfiguration=enabled))
        for path in [*folder.glob("*.png"), folder / "pairs.csv"]:
            put = functools.partial(self._client.put_object, **own, Key=path.name)
            insist(functools.partial(put, Body=path.read_bytes()))

    def recorded(self) -> list[str]:
        """Returns the outputs that the drivers have reported, as there is no journal."""
        return outputs_in(self._folder / "progress")

    def files(self) -> dict[str, File]:
        """Returns all outputs."""
        found = {}
        for each in self._versions():
            if each["IsLatest"]:
                name = each["Key"].removeprefix("out/")
                found[name] = File(each["VersionId"], each["ETag"].strip('"'))
        return found

    def _versions(self) -> list[Any]:
        pages = self._client.get_paginator("list_object_versions")
        call = {"Bucket": "bucket", "Prefix": "out/"}
        return insist(
            lambda: [each for page in pages.paginate(**call) for each in page.get("Versions", [])]
        )

    def close(self) -> str:
        """Stops the server; returns how often it was written to."""
        versions = [each["Key"] for each in self._versions() if each["Key"].endswith(".png")]
        self._server.kill()
        self._server.communicate()
        return f", {len(versions)} puts of {len({*versions})} pictures"


def insist(request: Callable[[], Any]) -> Any:
    """Returns what a request returns, once it does not fail."""
    for _ in range(50):
        with contextlib.suppress(Exception):
            return request()
    raise ConnectionError("the server fails too often")


def md5_of(path: Path) -> str:
    """Returns the hash that an object store has of a file."""
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()


def outputs_in(path: Path) -> list[str]:
    """Returns the outputs that are named in a journal, or in the progress of a run."""
    text = path.read_text().rpartition("\n")[0] if path.exists() else ""
    entries = map(json.loads, text.splitlines())
    return [each["output"] for each in entries if "output" in each and "report" not in each]
