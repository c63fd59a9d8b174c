"""Runs the tests on every supported Python, with older CPUs' instructions and with old packages.

    python scripts/test_matrix.py [--folder FOLDER] [--only TEXT]... [PYTEST ARGUMENT]...

`--only` selects the configurations whose name contains the text, such as 3.13, AVX2 or lowest.
Each Python has a virtual environment of its own in FOLDER. A Python that is not installed is
skipped, and the table says so. Other arguments are passed to pytest, for example
`tests/test_solvers.py`.
"""

import argparse
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

REPOSITORY = Path(__file__).parent.parent
VERSION = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
LOWEST = "lowest versions"
# Settings of pip that uv does not read, and uv's names for them.
UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
    "cert": "SSL_CERT_FILE",
}


class Configuration(NamedTuple):
    """A Python version, the newest instructions of XLA, and whether packages are old."""

    python: str
    isa: str | None
    lowest: bool

    @property
    def name(self) -> str:
        parts = (f"Python {self.python}", self.isa, LOWEST if self.lowest else None)
        return ", ".join(part for part in parts if part)


class Outcome(NamedTuple):
    """A row of the table."""

    name: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""


def run(command: list, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), text=True, **options)  # noqa: S603, PLW1510


def promised_versions() -> list[str]:
    """Returns the Python versions in the classifiers of pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    found = [
        each.rpartition(" :: ")[2] for each in project["classifiers"] if "Python :: 3." in each
    ]
    return sorted(found, key=lambda version: int(version.split(".")[1]))


def candidates(version: str) -> list[str]:
    """Returns where a Python of that version may be: this one, on the PATH, in pyenv, in uv."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    paths = [sys.executable, f"python{version}"]
    paths += map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True))
    if uv := shutil.which("uv"):
        command = [uv, "python", "find", "--no-python-downloads", version]
        paths += run(command, capture_output=True).stdout.split("\n")[:1]
    return [path for path in paths if path]


def find_python(version: str) -> str | None:
    """Returns the first candidate that starts and is a CPython of that version."""
    for path in candidates(version):
        try:
            said = run([path, "-c", VERSION], capture_output=True).stdout
        except OSError:
            continue
        if said.split() == ["cpython", *version.split(".")]:
            return path
    return None


def uv_environment(python: Path) -> dict[str, str]:
    """Returns this environment, with the package indexes that pip is configured to use."""
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **os.environ}
    command = [python, "-m", "pip", "config", "list"]
    for line in run(command, capture_output=True).stdout.splitlines():
        key, _, value = line.partition("=")
        if name := UV_NAMES.get(key.rpartition(".")[2]):
            environment.setdefault(name, " ".join(shlex.split(value)))
    return environment


def install(python: str, folder: Path, lowest: bool) -> Path:
    """Makes or updates a virtual environment with the package; returns its Python."""
    inside = folder / "bin" / "python"
    if not inside.exists():
        run([python, "-m", "venv", folder], check=True)
    package = ["--quiet", "--editable", f"{REPOSITORY}[dev]"]
    if lowest:
        run([inside, "-m", "pip", "install", "--quiet", "uv"], check=True)
        command = [inside, "-m", "uv", "pip", "install", "--resolution", "lowest-direct"]
        environment = uv_environment(inside)
        run([*command, "--python", inside, *package], check=True, env=environment)
    else:
        run([inside, "-m", "pip", "install", *package], check=True)
    return inside


def run_tests(python: Path, configuration: Configuration, arguments: list[str]) -> Outcome:
    """Runs pytest in a configuration."""
    environment = dict(os.environ)
    if configuration.isa:
        flags = environment.get("XLA_FLAGS", "")
        environment["XLA_FLAGS"] = f"{flags} --xla_cpu_max_isa={configuration.isa}"
    report = python.parent.parent / "report.xml"
    report.unlink(missing_ok=True)
    begin = time.monotonic()
    command = [python, "-m", "pytest", f"--junitxml={report}", *arguments]
    code = run(command, cwd=REPOSITORY, env=environment).returncode
    seconds = time.monotonic() - begin
    if not report.exists():
        return Outcome(configuration.name, seconds=seconds, note=f"pytest ended with {code}")
    suites = list(ElementTree.parse(report).iter("testsuite"))  # noqa: S314
    total, failures, errors, skipped = (
        sum(int(suite.get(key, "0")) for suite in suites)
        for key in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    note = f"pytest ended with {code}" if code and not failed else ""
    return Outcome(configuration.name, total - failed - skipped, failed, skipped, seconds, note)


def print_table(outcomes: list[Outcome]) -> None:
    width = max(len(outcome.name) for outcome in outcomes)
    print(f"\n{'configuration':{width}}  passed  failed  skipped  seconds")
    for name, passed, failed, skipped, seconds, note in outcomes:
        print(
            f"{name:{width}}  {passed:6}  {failed:6}  {skipped:7}  {seconds:7.0f}  {note}".rstrip()
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".venv-matrix")
    parser.add_argument("--only", action="append", metavar="TEXT")
    options, arguments = parser.parse_known_args()
    versions = promised_versions()
    isas = [None, "AVX2", "SSE4_2"] if platform.machine() in ("x86_64", "AMD64") else [None]
    wanted = [Configuration(version, isa, False) for version in versions for isa in isas]
    wanted.append(Configuration(versions[0], None, True))
    only = options.only or [""]
    wanted = [each for each in wanted if any(text in each.name for text in only)]

    outcomes, ready = [], {}
    for configuration in wanted:
        print(f"\n{configuration.name}", flush=True)
        version, _, lowest = configuration
        python = find_python(version)
        if python is None:
            outcomes.append(Outcome(configuration.name, note="not run: it is not installed"))
            continue
        folder = options.folder.resolve() / (f"{version}-lowest" if lowest else version)
        try:
            if folder not in ready:
                ready[folder] = install(python, folder, lowest)
        except subprocess.CalledProcessError as error:
            outcomes.append(Outcome(configuration.name, failed=1, note=f"not installed: {error}"))
            continue
        outcomes.append(run_tests(ready[folder], configuration, arguments))
    if not outcomes:
        parser.error(f"no configuration has a name with {' or '.join(only)}")
    print_table(outcomes)
    ran = any(outcome.passed for outcome in outcomes)
    broken = any(outcome.failed or "ended" in outcome.note for outcome in outcomes)
    return int(broken or not ran)


if __name__ == "__main__":
    sys.exit(main())
