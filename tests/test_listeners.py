"""A run and its listeners: all see the same steps, for one picture, a batch and the page."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jaxstyle
from jaxstyle.app import listeners, painting
from jaxstyle.app.cli.main import main
from jaxstyle.app.job import make_job
from jaxstyle.app.listeners import Listener, Step, follow
from jaxstyle.app.web import runs


class Recorder(Listener):
    """Notes what it is called with."""

    name = "record"

    def __init__(self):
        self.steps, self.finished, self.codes = [], [], []

    def see(self, step):
        self.steps.append(step)

    def finish(self, finished):
        self.finished.append(finished)

    def end(self, code):
        self.codes.append(code)


@pytest.fixture
def job(tmp_path, pictures, params_file, small_recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, seed in (("c", 0), ("s", 1)):
        jaxstyle.io.save_image(Path(f"{name}.png"), pictures(seed, 48, 64))
    return make_job(
        content="c.png", style=["s.png"], output="out.png", recipe=small_recipe, size=64,
        steps=3, coarsest=0, params=params_file, quiet=True, preview_every=1,
    )  # fmt: skip


def test_all_listeners_see_the_same_steps(job):
    first, second = Recorder(), Recorder()
    assert painting.paint(job, [first, second]) == 0
    assert [step.number for step in first.steps] == [0, 1, 2, 3]
    assert all(one is other for one, other in zip(first.steps, second.steps, strict=True))
    assert {step.total for step in first.steps} == {3}
    assert [len(step.trace) for step in first.steps] == [1, 2, 3, 4]
    for step in first.steps:
        assert isinstance(step.result.image, np.ndarray)  # on the host
        assert step.result.image.shape == (48, 64, 3)
        assert step.trace[-1]["step"] == step.number
    # The picture is on disk before anybody is told that it is finished, and its JSON too.
    (finished,) = first.finished
    assert finished.job.output == Path("out.png")
    metadata = json.loads(Path("out.json").read_text())
    assert metadata["trace"] == [*first.steps[-1].trace]
    assert metadata["sha256"] == finished.metadata["sha256"]
    assert first.codes == second.codes == [0]


def test_a_listener_that_fails_fails_the_run_but_nothing_else(job, capsys):
    class Failing(Recorder):
        def finish(self, finished):
            raise OSError(28, "No space left on device")

    failing, other = Failing(), Recorder()
    assert painting.paint(dataclasses.replace(job, plot=True), [failing, other]) == 1
    assert "error: there is no record: No space left on device" in capsys.readouterr().err
    assert len(other.finished) == 1
    assert failing.codes == other.codes == [1]
    assert {"out.png", "out.json", "out-loss.png"} <= {path.name for path in Path().iterdir()}


def test_a_listener_that_stops_the_run(job):
    class Stopping(Recorder):
        def see(self, step):
            super().see(step)
            if step.number == 2:
                raise KeyboardInterrupt

    stopping = Stopping()
    assert painting.paint(job, [stopping]) == 130
    assert [step.number for step in stopping.steps] == [0, 1, 2]
    metadata = json.loads(Path("out.json").read_text())
    assert (metadata["status"], metadata["trace"][-1]["step"]) == ("interrupted", 2)


def test_a_run_without_a_finite_start_has_no_picture(job, capsys):
    recipe = dataclasses.replace(job.recipe, weights={"content": 3e38, "style": 1.0})
    recorder = Recorder()
    job = dataclasses.replace(job, recipe=recipe, init="noise")
    assert painting.paint(job, [recorder]) == 1
    assert listeners.NOT_FINITE in capsys.readouterr().err
    assert not recorder.finished
    assert recorder.codes == [1]
    assert not Path("out.png").exists()


def test_follow_stops_between_steps():
    steps = [Step(number, 3, None) for number in range(4)]
    seen = Recorder()
    assert follow(iter(steps), [seen], lambda: False)
    assert seen.steps == steps
    for last in range(3):
        seen = Recorder()
        assert not follow(iter(steps), [seen], lambda: len(seen.steps) == last + 1)  # noqa: B023
        assert seen.steps == steps[: last + 1]
    # After the last step there is nothing left to stop.
    seen = Recorder()
    assert follow(iter(steps), [seen], lambda: seen.steps[-1].number == 3)


def test_a_batch_is_followed_too(job, params_file, monkeypatch):
    Image.open("c.png").save("c2.png")
    seen = []

    def note(steps, listeners, stopped):
        recorder = Recorder()
        complete = follow(steps, [*listeners, recorder], stopped)
        seen.append((complete, recorder.steps))
        return complete

    monkeypatch.setattr("jaxstyle.app.batch.painter.follow", note)
    Path("m.csv").write_text("content,style,output\nc.png,s.png,1.png\nc2.png,s.png,2.png\n")
    command = ["batch", "m.csv", "--output-dir", "out", "--params", params_file, "--size", "64"]
    assert main([*command, "--steps", "3", "--quiet", "--recipe", str(job.recipe_file)]) == 0
    ((complete, steps),) = seen
    assert complete
    assert (steps[0].number, steps[-1].number) == (0, 3)
    assert {step.total for step in steps} == {3}
    assert steps[-1].result.image.shape[0] == 2
    assert {path.name for path in Path("out").glob("*.png")} == {"1.png", "2.png"}


def test_the_page_follows_a_run(job):
    """A run of the live page works in a thread, and shows the last step until it is stopped."""
    run = runs.Run(job)
    runs.start(run)
    run.thread.join(60)
    assert not runs.is_alive(run)
    assert run.problem is None
    number, _, result, trace, *_ = run.shown
    assert number == 3 == trace[-1]["step"]
    assert result.image.shape == (48, 64, 3)
    assert Path("out.png").exists()
    # One that is stopped at its first step saves what it has.
    stopped = runs.Run(dataclasses.replace(job, output=Path("stopped.png")))
    runs.stop(stopped)
    runs.start(stopped)
    stopped.thread.join(60)
    assert (stopped.shown, stopped.problem) == (None, None)
    assert json.loads(Path("stopped.json").read_text())["status"] == "interrupted"
    # The visitor sees the reason for a run without a picture.
    recipe = dataclasses.replace(job.recipe, weights={"content": 3e38, "style": 1.0})
    failing = runs.Run(dataclasses.replace(job, output=Path("f.png"), recipe=recipe, init="noise"))
    runs.start(failing)
    failing.thread.join(60)
    assert failing.problem == listeners.NOT_FINITE
