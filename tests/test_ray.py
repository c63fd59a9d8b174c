"""Batches on Ray: a real cluster of several nodes on this machine, whose nodes and workers die."""

import contextlib
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_batch import (  # noqa: F401  `folder` is a fixture
    arguments,
    contents_of,
    folder,
    journal_of,
    write_manifest,
)

import jaxstyle
from jaxstyle.app.batch import worker
from jaxstyle.app.batch.painter import Painter
from jaxstyle.app.cli.main import main
from jaxstyle.io import InputError

if importlib.util.find_spec("ray") is None:
    pytest.skip("no Ray: pip install 'jaxstyle[ray]'", allow_module_level=True)

from jaxstyle.app.batch import ray_cluster, ray_engine, ray_pool, runner

ray = ray_cluster.ray  # it reads its settings when it is imported

from ray.cluster_utils import Cluster  # noqa: E402

# Ray leaves files and sockets open.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("default")]

NODE = {"num_cpus": 2, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A head without CPUs, and two nodes; a test that kills one adds another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("JAX_PLATFORMS", "cpu")
        head = {**NODE, "num_cpus": 0, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(2):
            cluster.add_node(**NODE)
        yield cluster
        cluster.shutdown()


@pytest.fixture
def on_ray(folder, params_file, cluster):  # noqa: F811
    """The arguments of a batch on the cluster."""

    def make(*options, output="out"):
        engine = ("--engine", "ray", "--address", cluster.address, *options)
        return arguments(folder, params_file, *engine, output=output)

    return make


@pytest.fixture
def during():
    """Calls a function in another thread, once a condition holds."""
    threads = []

    def begin(condition, call):
        def run():
            while not condition():
                time.sleep(0.02)
            call()

        threads.append(threading.Thread(target=run, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def lines(folder, output="out"):  # noqa: F811
    path = folder / output / "journal.jsonl"
    return path.read_bytes().count(b"\n") - 1 if path.exists() else 0


def assert_all_once(folder, outputs):  # noqa: F811
    assert sorted(entry["output"] for entry in journal_of(folder)) == sorted(outputs)
    left = {path.name for path in (folder / "out").iterdir() if path.is_file()}
    assert not [name for name in left if name.endswith((".tmp", ".run"))]


def test_pictures_are_those_of_the_local_engine(folder, params_file, on_ray, capsys):  # noqa: F811
    outputs = write_manifest(folder, 20)
    (folder / "c3.png").write_bytes((folder / "c3.png").read_bytes()[:-40])  # three pairs fail
    capsys.readouterr()
    assert main(on_ray("--keep-going", "--progress", "json")) == 1
    said = capsys.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [entry["painted"] + entry["failed"] for entry in found[:-1]] == [*range(1, 21)]
    nodes = {entry["node"]["name"]: entry["node"] for entry in found[:-1] if "node" in entry}
    assert sum(node["painted"] for node in nodes.values()) == 17
    assert found[-1]["painted"] == 17
    assert "line 4: " in said.err
    assert_all_once(folder, outputs)
    assert main(arguments(folder, params_file, "--keep-going", output="local")) == 1
    assert contents_of(folder / "out") == contents_of(folder / "local")
    assert main(on_ray("--keep-going")) == 1
    assert "20 pairs, 0 to paint, on the Ray cluster at" in capsys.readouterr().err


def test_a_node_is_lost_and_one_is_added(
    folder, params_file, on_ray, cluster, capsys, monkeypatch  # noqa: F811
):  # fmt: skip
    outputs = write_manifest(folder, 72)
    node = next(each for each in cluster.list_all_nodes() if not each.is_head())
    codes, names, pools = [], set(), []
    add, look = runner.Recorder.add, ray_pool.Pool._look

    def note(self):
        pools.append(self)
        look(self)

    monkeypatch.setattr(ray_pool.Pool, "_look", note)

    def spy(self, *entries, node=""):
        add(self, *entries, node=node)
        names.add(node)
        # The rest waits for a worker on the new node. The first one that starts may be lost too: it
        # may have been sent to the node that is gone.
        deadline = time.monotonic() + 60
        while len(names) < 3 and lines(folder) >= 30 and time.monotonic() < deadline:
            pools[0].hire(len(outputs))
            for each in [each for each in pools[0].members if each.starting is not None]:
                if ray.wait([each.starting], timeout=0.5)[0]:
                    pools[0].start(each)
            if any(each.name not in names for each in pools[0].usable()):
                break

    monkeypatch.setattr(runner.Recorder, "add", spy)
    steps = ("--steps", "10")
    call = on_ray(*steps)
    capsys.readouterr()
    # Ray's nodes are managed by the main thread.
    run = threading.Thread(target=lambda: codes.append(main(call)))
    run.start()
    while not any(name.endswith(node.node_id[:4]) for name in names) and run.is_alive():
        time.sleep(0.02)
    cluster.remove_node(node, allow_graceful=False)
    cluster.add_node(**NODE)
    run.join()
    assert codes == [0]
    assert_all_once(folder, outputs)
    assert len(names) == 3
    assert "lost; others go on" in capsys.readouterr().err
    assert main(arguments(folder, params_file, *steps, output="local")) == 0
    assert contents_of(folder / "out") == contents_of(folder / "local")


def test_the_driver_is_killed_and_started_again(folder, on_ray):  # noqa: F811
    outputs = write_manifest(folder, 24)
    call = on_ray("--steps", "40")
    driver = subprocess.Popen([sys.executable, "-m", "jaxstyle", *call])
    while lines(folder) < 5 and driver.poll() is None:
        time.sleep(0.02)
    assert driver.poll() is None
    driver.kill()
    driver.wait()
    done = [entry["output"] for entry in journal_of(folder)]
    times = {name: (folder / "out" / name).stat().st_mtime_ns for name in done}
    assert main(call) == 0
    assert_all_once(folder, outputs)
    assert times == {name: (folder / "out" / name).stat().st_mtime_ns for name in done}


def test_ctrl_c_stops_and_the_next_start_goes_on(folder, on_ray, during, capsys):  # noqa: F811
    outputs = write_manifest(folder, 24)
    call = on_ray("--steps", "60")
    during(lambda: lines(folder) > 0, lambda: os.kill(os.getpid(), signal.SIGINT))
    assert main(call) == 130
    assert "run the same command to resume" in capsys.readouterr().err
    assert 0 < lines(folder) < 24
    assert main(call) == 0
    assert_all_once(folder, outputs)


class Deadly(Painter):
    """Dies of one pair."""

    def paint(self, batch, lanes):
        names = [batch.pairs[index].row.output for index in batch.wanted]
        if "1/7.png" in names:
            os.kill(os.getpid(), signal.SIGKILL)
        yield from super().paint(batch, lanes)


@pytest.fixture
def painting(monkeypatch):
    """Lets workers paint with a class of this module."""
    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)
    yield lambda kind: monkeypatch.setattr(runner.run_batch, "__defaults__", (kind,))
    ray.cloudpickle.unregister_pickle_by_value(module)


class Faulty(Painter):
    """Its workers fail on one node, or on all."""

    marker = None  # a file with the name of that node, of the first worker
    fault = ""  # the function that fails

    def __init__(self, *arguments):
        super().__init__(*arguments)
        own = ray.get_runtime_context().get_node_id()
        with contextlib.suppress(FileExistsError), open(self.marker, "x") as file:
            file.write(own)
        if own != self.marker.read_text():
            return

        def fail(*_):
            raise InputError("it is not mounted here")

        setattr(worker, self.fault, fail)
        if self.fault == "check_target":  # of a folder that can only be read, as root sees it
            worker.os = types.SimpleNamespace(access=lambda *_: False, W_OK=2, X_OK=1)


@pytest.mark.parametrize("fault", ["load_lane", "write_json", "check_target"])
def test_a_node_that_cannot_read_or_write(fault, folder, on_ray, capsys, painting):  # noqa: F811
    outputs = write_manifest(folder, 40)
    Faulty.marker, Faulty.fault = folder / "marker", fault
    painting(Faulty)
    call = on_ray("--batch-size", "2")
    capsys.readouterr()
    assert main(call) == 0
    said = capsys.readouterr().err
    name = Faulty.marker.read_text()[:4]
    if fault == "load_lane":
        assert f"-{name}: it is not mounted here; another node tries it" in said
        assert f"-{name} cannot read the pictures, and gets no more work" in said
        assert said.count("not mounted") <= 9
    else:
        what = "not mounted here" if fault == "write_json" else "out' is not writable"
        assert re.findall(f"-{name}: .*{what}; other nodes go on", said)
        assert said.count(what) == 1
    assert_all_once(folder, outputs)
    assert not [entry for entry in journal_of(folder) if "error" in entry]


def test_a_pair_that_three_workers_die_of_fails_alone(
    folder, on_ray, capsys, painting  # noqa: F811
):  # fmt: skip
    outputs = write_manifest(folder, 12)
    painting(Deadly)
    assert main(on_ray()) == 1
    said = capsys.readouterr().err
    assert "11 painted" in said
    assert "1/7.png: 3 workers died while they painted it" in said
    assert_all_once(folder, outputs)
    assert [entry["output"] for entry in journal_of(folder) if "error" in entry] == ["1/7.png"]


def test_a_worker_that_does_not_see_the_folder(folder, on_ray, capsys, monkeypatch):  # noqa: F811
    write_manifest(folder, 4)
    monkeypatch.setattr(ray_pool, "_PATIENCE", 1.0)
    monkeypatch.setattr(ray_engine, "write_atomically", lambda *_: None)
    assert main(on_ray()) == 2
    said = capsys.readouterr().err
    assert "does not see --output-dir" in said
    assert "mount it on all nodes" in said.splitlines()[-1]
    assert not list((folder / "out").rglob("*.png"))


def test_ray_kills_a_worker_for_memory(folder, on_ray, cluster, monkeypatch):  # noqa: F811
    """Of a node whose limit is so low that any worker is above it; then another one comes."""
    outputs = write_manifest(folder, 4)
    node = {**NODE, "num_cpus": 3}
    limits = {"RAY_memory_usage_threshold": "0.001", "RAY_memory_monitor_refresh_ms": "50"}
    nodes = [cluster.add_node(**node, env_vars=limits)]
    codes, said = [], []
    for module in (ray_pool, ray_engine):
        monkeypatch.setattr(module, "print_message", said.append)
    call = on_ray("--cpus-per-worker", "3")
    run = threading.Thread(target=lambda: codes.append(main(call)))
    run.start()
    while not any("out of memory" in each for each in said) and run.is_alive():
        time.sleep(0.02)
    nodes.append(cluster.add_node(**node))
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    run.join()
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    assert codes == [0], said
    assert_all_once(folder, outputs)


def test_a_worker_that_never_starts(monkeypatch, capsys):
    def fail(*_):
        raise ray.exceptions.RayActorError(error_msg="ModuleNotFoundError: no jaxstyle")

    monkeypatch.setattr(ray, "get", fail)
    pool = ray_pool.Pool(None)
    monkeypatch.setattr(pool, "_look", lambda: None)
    monkeypatch.setattr(pool, "_changed", -1e9)  # however long that takes
    for _ in range(4):
        pool.hire(1)
        pool.members.append(ray_pool.Member(None, "it"))
        assert pool.start(pool.members[0]) is None
    with pytest.raises(ray_pool.InputError, match="does not start: ModuleNotFoundError: no jax"):
        pool.hire(1)
    assert capsys.readouterr().err.count("does not start") == 1


def test_a_node_is_lost_that_has_nothing_to_paint(monkeypatch, capsys):
    pool = ray_pool.Pool(None)
    pool._options = {"num_cpus": 2}
    pool.members = [
        ray_pool.Member(None, None, node, name=node, idle=False) for node in ("a", "a", "b")
    ]
    pool.members[1].tasks["it"] = None  # its loss is noticed when that is asked for
    monkeypatch.setattr(pool, "_nodes", lambda: {"b": {"CPU": 2}})
    pool._look()
    assert [member.node for member in pool.members] == ["a", "b"]
    assert capsys.readouterr().err.strip().endswith("a: the node was lost; others go on")
    pool._look()
    assert capsys.readouterr().err == ""


def test_others_go_on_only_if_there_are_others(capsys):
    pool = ray_pool.Pool(None)
    pool.members = [ray_pool.Member(None, None, node, name=node, idle=False) for node in "ab"]
    said = []
    for member in pool.usable():
        pool.retire(member, "its device is broken")
        said.append(capsys.readouterr().err.strip())
    assert said[0].endswith("a: its device is broken; others go on")
    assert said[1].endswith("b: its device is broken")


def test_a_folder_that_is_gone_ends_the_run(tmp_path):
    from jaxstyle.app.batch.ray_worker import RayWorker, Ticket

    def save(painted, record):
        record({"output": painted})

    worker = object.__new__(RayWorker)
    worker._stop, worker._device = threading.Event(), threading.Lock()
    worker._worker = types.SimpleNamespace(
        load=lambda *_: [], paint=lambda *_: iter(["a.png"]), save=save
    )
    worker._ticket = Ticket(tmp_path / "ticket", "mine")
    worker._ticket.path.write_text("mine")
    with ThreadPoolExecutor(1) as worker._threads:
        assert worker.paint(None) == ([{"output": "a.png"}], [], None)
        worker._ticket.path.unlink()
        entries, _, trouble = worker.paint(None)
    assert (entries, "the output folder was removed" in trouble) == ([], True)


def test_less_memory_takes_fewer_lanes():
    engine = object.__new__(ray_engine.RayEngine)
    engine._waiting = ray_engine.deque()
    batch = jaxstyle.app.batch.plan.Batch((None,) * 5, (0, 2, 4), 5, (32, 32), ((32, 32),))

    def lose(deaths, **reason):
        engine._waiting.clear()
        engine._try_again(ray_pool.Task(batch, deaths), None, "", **reason)
        return [(task.batch.size, task.batch.wanted) for task in engine._waiting]

    assert lose(0, starved=True, alive=True) == [(3, (0, 2, 4))]
    assert lose(0, starved=False, alive=True) == [(5, (0, 2, 4))]
    alone = [(1, (4,)), (1, (2,)), (1, (0,))]
    assert lose(1, starved=False, alive=True) == lose(1, starved=True, alive=True) == alone
    assert lose(1, starved=False, alive=False) == [(5, each) for _, each in alone]


@pytest.mark.parametrize("what", ["closed", "silent", "other", "a name", "a client"])
def test_an_address_that_is_none(what, folder, params_file, capsys, monkeypatch):  # noqa: F811
    write_manifest(folder, 2)
    monkeypatch.setattr(ray_cluster, "_SECONDS", 0.3)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        if what != "closed":
            server.listen()
        if what == "other":

            def answer():
                connection, _ = server.accept()
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

            threading.Thread(target=answer, daemon=True).start()
        address = {"a name": "head", "a client": f"ray://{address}"}.get(what, address)
        call = arguments(folder, params_file, "--engine", "ray", "--address", address)
        assert main(call) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: --address {address}: ")
    assert "give HOST:PORT of the cluster's head" in said
    assert len(said.splitlines()) == 1
    assert not (folder / "out").exists()


def test_no_cluster_and_no_ray(folder, params_file, capsys, monkeypatch):  # noqa: F811
    write_manifest(folder, 2)
    call = arguments(folder, params_file, "--engine", "ray")

    def refuse(*_, **__):
        raise ConnectionError

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    monkeypatch.setattr(ray, "init", refuse)
    assert main(call) == 2
    assert "no Ray cluster runs on this machine: start one" in capsys.readouterr().err
    (folder / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    (folder / "ray" / "ray_current_cluster").write_text(address)
    assert main(call) == 2
    assert f"was started last on this machine, {address}, does not ans" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "jaxstyle.app.batch.ray_cluster")
    assert main(call) == 2
    assert "--engine ray needs Ray: pip install 'jaxstyle[ray]'" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_options_of_another_engine(folder, params_file, capsys):  # noqa: F811
    write_manifest(folder, 2)
    for option in ("--address", "--gpus-per-worker", "--cpus-per-worker"):
        assert main(arguments(folder, params_file, option, "1")) == 2
        assert f"{option} needs --engine ray" in capsys.readouterr().err
