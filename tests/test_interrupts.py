"""Whatever ends a run, signals and errors: the picture is saved, and nothing else is lost."""

import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import SHALLOW
from PIL import Image

import jaxstyle
from jaxstyle.app import interrupts, listeners, saving
from jaxstyle.app.cli.main import main
from jaxstyle.app.interrupts import Interrupts
from jaxstyle.io import InputError, describe_recipe
from jaxstyle.io.ownership import is_ours

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture(autouse=True)
def _signals(monkeypatch):
    """As in a terminal, whatever started the tests."""
    note = Interrupts._note

    def hear(self, *arguments):
        note(self, *arguments)
        heard.set()

    monkeypatch.setattr(Interrupts, "_note", hear)
    before = {number: signal.getsignal(number) for number, _ in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    yield
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def command(tmp_path, pictures, params_file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("c", 0), ("s", 1)):
        Image.fromarray((255 * pictures(seed, 48, 64)).astype(np.uint8)).save(f"{name}.png")
    Path("small.json").write_text(json.dumps(describe_recipe(SHALLOW)))
    return ["stylize", "--content", "c.png", "--style", "s.png", "--recipe", "small.json",
            "--params", params_file, "--size", "64", "--steps", "4", "--coarsest", "0"]  # fmt: skip


def send(number):
    """Sends a signal and waits until the main thread has heard it."""
    heard.clear()
    os.kill(os.getpid(), number)
    if signal.getsignal(number) != signal.SIG_IGN:
        assert heard.wait(30)


heard = threading.Event()


def painted_by(monkeypatch, then):
    """The first steps of a run are real; then it calls `then`, and at its end goes on."""
    steps = jaxstyle.stylize_steps

    def stop(*arguments, **settings):
        for step, result in steps(*arguments, **{**settings, "every": 1}):
            yield step, result
            if step == 2:
                then()

    monkeypatch.setattr(jaxstyle, "stylize_steps", stop)


def check_picture(path, status):
    """The picture is whole, and the JSON beside it tells of it."""
    with Image.open(path) as image:
        assert image.size == (64, 48)
        image.load()
    metadata = json.loads(path.with_suffix(".json").read_text())
    assert metadata["status"] == status
    assert metadata["output"] == path.name
    assert metadata["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert not list(path.parent.glob(".jaxstyle-*"))
    return metadata


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_ends_a_run_after_its_step(command, monkeypatch, capsys, number, code):
    painted_by(monkeypatch, lambda: send(number))
    assert main(command) == code
    assert check_picture(Path("out.png"), "interrupted")["trace"][-1]["step"] <= 3
    assert capsys.readouterr().err.count("stopping after this step") == 1


@pytest.mark.parametrize(
    "numbers", [[signal.SIGINT] * 2, [signal.SIGTERM], [signal.SIGHUP, signal.SIGTERM]]
)
def test_within_a_long_step(command, monkeypatch, capsys, numbers):
    monkeypatch.setattr(interrupts, "_PATIENCE", 0.2)
    released = threading.Event()
    codes = []

    def long_step():
        for number in numbers:
            send(number)
        assert released.wait(60)

    painted_by(monkeypatch, long_step)
    monkeypatch.setattr("jaxstyle.app.painting.leave", codes.append)
    assert main(command) == 128 + numbers[0]
    assert codes == [128 + numbers[0]]
    released.set()
    check_picture(Path("out.png"), "interrupted")
    assert "stopping after this step" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_while_saving(command, monkeypatch, number, code):
    save = saving.save_image

    def slow(*arguments, **options):
        send(number)
        time.sleep(0.1)
        send(number)
        save(*arguments, **options)

    monkeypatch.setattr(saving, "save_image", slow)
    assert main(command) == code
    check_picture(Path("out.png"), "step_limit")


def test_before_there_is_anything(command, monkeypatch, capsys):
    released = threading.Event()

    def compile_for_long(*_, **__):
        send(signal.SIGINT)
        assert released.wait(60)
        yield

    codes = []
    monkeypatch.setattr(jaxstyle, "stylize_steps", compile_for_long)
    monkeypatch.setattr("jaxstyle.app.painting.leave", codes.append)
    begin = time.monotonic()
    assert main([*command, "--progress", "json"]) == 130
    assert time.monotonic() - begin < 30
    assert codes == [130]
    released.set()
    said = capsys.readouterr()
    assert "interrupted before there was anything to save" in said.err
    assert "stopping" not in said.err
    assert json.loads(said.out)["status"] == "interrupted"
    assert not Path("out.png").exists()


def test_what_is_ignored_stays_ignored(command, monkeypatch):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    painted_by(monkeypatch, lambda: send(signal.SIGHUP))
    assert main(command) == 0
    check_picture(Path("out.png"), "step_limit")
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_nobody_hears_of_it(command, monkeypatch):
    """A lost connection: SIGHUP, and nothing can be written to the terminal any more."""

    class Gone:
        def write(self, _):
            raise OSError(5, "Input/output error")

        flush = isatty = fileno = lambda self: self.write("")

    def hang_up():
        monkeypatch.setattr(sys, "stdout", Gone())
        monkeypatch.setattr(sys, "stderr", Gone())
        send(signal.SIGHUP)

    painted_by(monkeypatch, hang_up)
    assert main([*command, "--progress", "json"]) == 129
    check_picture(Path("out.png"), "interrupted")


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "use a smaller --size"),
        (MemoryError(), "MemoryError"),
        (ValueError("of something\nin the middle"), "of something in the middle"),
        (InputError("a file is gone"), "a file is gone"),
        (ZeroDivisionError("a fault of ours"), "ZeroDivisionError: a fault of ours"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_late_in_a_run(command, monkeypatch, capsys, problem, reason):
    def fail():
        raise problem

    painted_by(monkeypatch, fail)
    assert main([*command, "--quiet"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: the run failed after 2 steps: ")
    assert reason in line
    assert "'out.png'" in line
    assert reason.split(";")[0] in check_picture(Path("out.png"), "failed")["problem"]


def test_errors_before_the_first_step(command, monkeypatch, capsys):
    def refuse(*_, **__):
        raise ValueError("a setting of no use")
        yield

    monkeypatch.setattr(jaxstyle, "stylize_steps", refuse)
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "error: a setting of no use"
    assert not Path("out.png").exists()


def test_a_folder_that_is_gone(command, monkeypatch, capsys, tmp_path):
    """The picture goes to the current folder, under a new name."""
    wanted = tmp_path / "gone"
    wanted.mkdir()
    painted_by(monkeypatch, wanted.rmdir)
    assert main([*command, "--output", str(wanted / "out.png")]) == 1
    (found,) = Path().glob("out-*.png")
    assert repr(str(tmp_path / found)) in capsys.readouterr().err
    check_picture(found, "step_limit")


def test_the_current_folder_is_gone(command, monkeypatch, capsys, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(other))
    here = tmp_path / "here"
    here.mkdir()
    for name in ("c.png", "s.png", "small.json"):
        Path(name).rename(here / name)
    monkeypatch.chdir(here)
    painted_by(monkeypatch, lambda: shutil.rmtree(here))
    assert main(command) == 1
    (found,) = other.glob("out-*.png")
    assert repr(str(found)) in capsys.readouterr().err
    assert check_picture(found, "step_limit")["files"]["content"]["path"] == str(here / "c.png")
    monkeypatch.chdir(tmp_path)


def test_no_folder_takes_it(command, monkeypatch, capsys):
    def full(*_, **__):
        raise InputError("cannot write 'out.png' (No space left on device)")

    save = saving.save_image
    monkeypatch.setattr(saving, "save_image", full)
    assert main([*command, "--progress", "json"]) == 1
    said = capsys.readouterr()
    assert "No space left on device" in said.err
    assert json.loads(said.out.splitlines()[-1])["output"] is None

    # At a terminal, whoever sits there can make some room.
    class Terminal:
        isatty = staticmethod(lambda: True)

        def readline(self):
            monkeypatch.setattr(saving, "save_image", save)
            return "\n"

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert main(command) == 0
    check_picture(Path("out.png"), "step_limit")


def test_a_file_that_comes_in_the_meantime(command, monkeypatch, capsys):
    """What somebody else puts there during a run is not replaced."""

    def write():
        Path("out.png").write_text("mine")
        Path("out.json").write_text("mine")

    painted_by(monkeypatch, write)
    assert main(command) == 1
    assert "'out.png' exists" in capsys.readouterr().err
    assert Path("out.png").read_text() == Path("out.json").read_text() == "mine"
    (found,) = Path().glob("out-*.png")
    check_picture(found, "step_limit")
    assert is_ours(found)


def test_trouble_with_other_files_does_not_cost_the_picture(command, monkeypatch, capsys):
    def fail(*_, **__):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(listeners, "plot_losses", fail)
    monkeypatch.setattr("jaxstyle.app.pages.run_page.describe_run", fail)
    assert main([*command, "--plot", "--report", "page"]) == 1
    said = capsys.readouterr().err
    assert "error: there is no loss curve: no fonts" in said
    assert "error: there is no report: no fonts" in said
    check_picture(Path("out.png"), "step_limit")


def test_threads_of_others_have_no_signals():
    """In a thread of the page's the work is done there and then."""
    done = []

    def call():
        with Interrupts() as watched:
            problem = watched.watch(lambda: done.append(threading.current_thread()), lambda: True)
        assert problem is None
        assert watched.code == 0

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert done == [thread]
