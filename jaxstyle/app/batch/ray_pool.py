"""The actors of a run on a Ray cluster: as many as the cluster has room for, and one more."""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import jaxstyle
from jaxstyle.app.batch.plan import Batch, BatchJob
from jaxstyle.app.batch.ray_cluster import problem_of_head, ray
from jaxstyle.app.batch.ray_worker import Description, RayWorker
from jaxstyle.app.console import print_message
from jaxstyle.io import InputError
from jaxstyle.io.files import describe_path

_AT_ONCE = 3  # batches of an actor: one is read, one is painted, and one is written
_SECONDS = 2.0  # between two looks at the nodes
_PATIENCE = 20.0  # seconds until it is an error that no actor can paint
_PAUSE = 5.0  # seconds after an actor that did not start
_ATTEMPTS = 4  # actors in a row that do not start, until it is an error
_HEAD_PATIENCE = 30.0  # seconds without the head; after 60, Ray itself ends this process
_GRACE = 60.0  # seconds for a new node to have an actor
_DOUBTS = 3  # batches in a row that a node cannot read, until it gets no more of them
_STARVED = "running low on memory"  # Ray's words for a worker that it has killed


@dataclasses.dataclass(frozen=True)
class Task:
    """A batch.

    Attributes:
        batch: what to paint.
        deaths: how many workers were lost while they had it.
        blind: the node that could not read its pictures, if there is one.
        unread: entries for the journal, if no other node can.
    """

    batch: Batch
    deaths: int = 0
    blind: str = ""
    unread: Sequence[Mapping[str, Any]] = ()


@dataclasses.dataclass(eq=False)
class Member:
    """An actor."""

    actor: Any
    starting: Any  # refers to its `Description`; None once that is there
    node: str = ""
    name: str = ""  # of the node, for messages
    idle: bool = True  # it is never given work: it only holds its place, which is of no use
    tasks: dict[Any, Task] = dataclasses.field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        """Whether it takes another batch. What has cost a worker is painted alone."""
        alone = any(task.deaths for task in self.tasks.values())
        return not self.idle and not alone and len(self.tasks) < _AT_ONCE


def is_starved(error: Exception) -> bool:
    """Whether Ray has killed a worker because its node was short of memory."""
    return _STARVED in str(error)


class Pool:
    """Starts actors, and forgets those that are lost.

    Attributes:
        members: all actors.
        doubts: node -> batches in a row whose pictures it could not read.
        arguments: of `RayWorker`.
    """

    def __init__(self, job: BatchJob) -> None:
        """Takes the settings of the batch."""
        self.members: list[Member] = []
        self.doubts: Counter[str] = Counter()
        self.arguments: tuple[Any, ...] = ()
        self._job = job
        self._options: dict[str, Any] = {}  # of an actor; empty until they are known
        self._rooms: dict[str, int] = {}  # node -> actors for which it has resources
        self._looked = self._failed = self._added = -_PATIENCE
        self._failures = 0  # actors that did not start since the last one that did
        self._changed = self._answered = time.monotonic()
        self._problem = ""

    def usable(self) -> list[Member]:
        """Returns the actors that can paint."""
        return [member for member in self.members if not member.idle]

    def trusted(self) -> list[Member]:
        """Returns the actors that can paint and, as far as is known, read pictures."""
        usable = self.usable()
        trusted = [each for each in usable if self.doubts[each.node] < _DOUBTS]
        return trusted or [each for each in usable if not self.may_gain(each.node)]

    def doubt(self, member: Member) -> None:
        """Notes that the node of an actor could read none of the pictures of a batch."""
        self.doubts[member.node] += 1
        if self.doubts[member.node] == _DOUBTS:
            print_message(
                f"{member.name} cannot read the pictures, and gets no more work as long as other "
                "nodes can: mount them there under the same path"
            )

    def others(self, node: str) -> list[Member]:
        """Returns the actors that can paint on other nodes."""
        return [member for member in self.usable() if member.node != node]

    def may_gain(self, node: str) -> bool:
        """Whether another node was added a short time ago, which may soon have an actor."""
        known = {member.node for member in self.members if member.starting is None}
        recent = time.monotonic() - self._added < _GRACE
        return recent and any(
            number and each not in known | {node} for each, number in self._rooms.items()
        )

    def hire(self, batches: int) -> None:
        """Starts actors for so many batches, as far as there is room, and some that wait for it.

        Raises:
            InputError: if no actor can work, or the cluster's head does not answer.
        """
        now = time.monotonic()
        usable = len(self.usable())
        tried = self._failures >= _ATTEMPTS if self._failures else now - self._changed > _PATIENCE
        if not usable and self._problem and tried:
            raise InputError(self._problem)
        if now - self._looked > _SECONDS:
            self._looked = now
            self._look()
        if not self._options or now - self._failed < _PAUSE:
            return
        useless = sum(member.idle and member.starting is None for member in self.members)
        number = min(sum(self._rooms.values()) + max(usable, 1), batches + useless)
        for _ in range(number - len(self.members)):
            actor = ray.remote(RayWorker).options(**self._options).remote(*self.arguments)
            self.members.append(Member(actor, actor.describe.remote()))
            self._changed = now

    def _look(self) -> None:
        """Finds what an actor needs, and how many the nodes have room for."""
        alive = self._nodes()
        if alive is None:
            return
        # `lose` is called for those that have tasks.
        idle = [each for each in self.usable() if each.node not in alive and not each.tasks]
        self.members = [each for each in self.members if each not in idle]
        for name in sorted({each.name for each in idle}):
            print_message(f"{name}: the node was lost{self.others_go_on()}")
        nodes = [*alive.values()]
        if not self._options:
            self._choose(nodes)
        needed = {"CPU": self._options.get("num_cpus", 0), "GPU": self._options.get("num_gpus", 0)}
        needed |= self._options.get("resources", {})
        needed = {name: number for name, number in needed.items() if number}
        if alive.keys() - self._rooms.keys():
            self._added = time.monotonic()
        self._rooms = {
            name: int(min(node.get(each, 0) // number for each, number in needed.items()))
            for name, node in alive.items()
            if needed
        }

    def _nodes(self) -> dict[str, Mapping[str, float]] | None:
        """Returns the resources of the nodes that are there; None if the head does not answer.

        Ray itself would wait for it, meanwhile nothing would be recorded.

        Raises:
            InputError: if it has not answered for a while.
        """
        now, address = time.monotonic(), ray.get_runtime_context().gcs_address
        if problem_of_head(address) is None:
            self._answered = now
            return {node["NodeID"]: node["Resources"] for node in ray.nodes() if node["Alive"]}
        passed = now - self._answered
        if passed > _HEAD_PATIENCE:
            raise InputError(
                f"the cluster's head at {address} has not answered for {passed:.0f} s; start one "
                "again, see ray start --head"
            )
        return None

    def _choose(self, nodes: Sequence[Mapping[str, float]]) -> None:
        """Chooses what an actor needs: a GPU, all TPUs of a host, or else the CPUs of a node."""

        def least(name: str) -> int:
            return int(min((node[name] for node in nodes if node.get(name, 0) >= 1), default=0))

        cpus, gpus, tpus = self._job.cpus_per_worker, self._job.gpus_per_worker, least("TPU")
        options: dict[str, Any] = {"max_concurrency": _AT_ONCE + 1, "max_restarts": 0}
        if gpus is None:
            gpus = min(least("GPU"), 1)
        if gpus:
            options |= {"num_gpus": gpus, "num_cpus": cpus or 1}
        elif tpus and self._job.gpus_per_worker is None:
            options |= {"resources": {"TPU": tpus}, "num_cpus": cpus or 1}
        elif number := cpus or least("CPU"):
            options["num_cpus"] = number
            # So that several workers of a node do not all use all of its CPUs. XLA reads it.
            options["runtime_env"] = {"env_vars": {"PJRT_NPROC": str(number)}}
        else:
            self._problem = "no node has a CPU yet: give --cpus-per-worker or --gpus-per-worker"
            return
        self._options, self._problem = options, ""

    def start(self, member: Member) -> Description | None:
        """Takes what a started actor says of itself; None if it cannot be used."""
        try:
            found: Description = ray.get(member.starting)
        except ray.exceptions.RayError as error:
            self.members.remove(member)
            self._failed = time.monotonic()
            self._failures += 1
            reason = [*filter(None, map(str.strip, str(error).splitlines()))][-1]
            reason = "out of memory" if is_starved(error) else reason[:200]
            self._complain(
                f"a worker does not start{self.others_go_on()}: {reason}; "
                "Ray's logs on its node say more"
            )
            return None
        member.starting, member.node, member.name = None, found.node, found.name
        if found.version != jaxstyle.__version__:
            self._complain(
                f"{found.name} has jaxstyle {found.version}, and this machine has "
                f"{jaxstyle.__version__}: install the same there"
            )
        elif found.machine is None:
            folder = describe_path(self._job.output_dir)
            self._complain(
                f"{found.name} does not see --output-dir {folder} of this machine: mount it on "
                "all nodes under the same path"
            )
        else:
            member.idle, self._failures = False, 0
            return found
        return None

    def others_go_on(self) -> str:
        """Returns the end of a message about an actor that is lost: whether others still paint."""
        return "; others go on" if self.usable() else ""

    def _complain(self, problem: str, others: str = "") -> None:
        if problem != self._problem:
            print_message(f"{problem}{others}")
        self._problem = problem

    def exclude(self, node: str, problem: str) -> None:
        """Gives the actors of a node no more work; they end what they have."""
        for member in self.members:
            if member.node == node and not member.idle:
                member.idle = True
                self._complain(f"{member.name}: {problem}", "; other nodes go on")

    def retire(self, member: Member, problem: str) -> list[Task]:
        """Gives an actor no more work; it keeps its broken device. Returns what it had."""
        tasks = self._dismiss(member)
        self._complain(f"{member.name}: {problem}", self.others_go_on())
        return tasks

    def _dismiss(self, member: Member) -> list[Task]:
        member.idle, tasks = True, [*member.tasks.values()]
        member.tasks.clear()
        return tasks

    def lose(self, member: Member) -> tuple[list[Task], bool]:
        """Forgets an actor; returns what it had, and whether its node is still there."""
        tasks = self._dismiss(member)
        self.members.remove(member)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(member.actor)
        self._looked = -_PATIENCE
        alive = self._nodes()
        return tasks, alive is None or member.node in alive
