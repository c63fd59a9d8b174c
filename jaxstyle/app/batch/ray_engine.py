"""Paints the batches of a run on a Ray cluster.

The driver gives batches to actors of Ray Core itself, three at a time: one is read, one is painted,
and one is written. Ray Data, or Ray's own retries, would be less code. But Ray starts the actor of
a lost node anew and lets its tasks wait for that, for ever if no other node has room. Here a lost
actor is not started anew: its batches go to those that are left. As long as there is work, more
actors are requested than the cluster has room for, so new nodes get actors, and an autoscaler sees
that nodes are wanted.

Workers read and write the pictures, so that those do not pass through the driver, and return
entries for the journal, which the driver alone writes. Each worker paints as the local engine does.
"""

import dataclasses
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxstyle.app.batch.painter import DeviceError, Painter
from jaxstyle.app.batch.plan import Batch, BatchJob, Machine
from jaxstyle.app.batch.progress import Progress
from jaxstyle.app.batch.ray_cluster import ray
from jaxstyle.app.batch.ray_pool import Member, Pool, Task, is_starved
from jaxstyle.app.batch.ray_worker import Outcome, Ticket
from jaxstyle.app.batch.recorder import Recorder
from jaxstyle.app.batch.resume import ticket_path
from jaxstyle.app.batch.worker import Network, origin_of
from jaxstyle.app.console import print_message
from jaxstyle.io import InputError, write_atomically
from jaxstyle.io.files import remove_leftovers

_POLL = 0.5  # seconds
_TROUBLES = 2  # nodes in a row that cannot write and are left out; one more ends the run
_DEATHS = 3  # of workers, until a pair counts as their cause


class RayEngine:
    """Paints batches on all nodes of the cluster that `ray_cluster.connect` has connected to."""

    def __init__(self, job: BatchJob, network: Network, painter: Callable[..., Painter]) -> None:
        """Takes what a `Worker` needs."""
        self.place = f"the Ray cluster at {ray.get_runtime_context().gcs_address}"
        self._job, self._network, self._painter = job, network, painter
        self._ticket: Ticket | None = None
        self._pool = Pool(job)
        self._machine: Machine | None = None
        self._waiting: deque[Task] = deque()
        self._elsewhere: list[Task] = []  # for other nodes than the one that could not read them
        self._troubles = 0  # nodes that could not write, since one could
        self._torn: set[Path] = set()  # where lost workers may have written half a file

    def machine(self) -> Machine:
        """Returns what the sizes of batches depend on: the first worker, once it has started."""
        job = self._job
        if isinstance(job.output_dir, Path):
            path = ticket_path(job.output_dir, *job.slice)
            self._ticket = Ticket(path, secrets.token_hex(16))
            write_atomically(path, self._ticket.text.encode())
        arrays = self._network._replace(params=jax.device_get(self._network.params))
        # Put once, and read from there by all workers of a node.
        put = [ray.put(each) for each in (job, arrays, self._painter)]
        self._network.params.clear()
        self._pool.arguments = (*put, os.getcwd(), self._ticket)
        while self._machine is None:
            self._pool.hire(1)
            self._collect(None)
        return self._machine

    def is_busy(self) -> bool:
        """Whether a worker has a batch."""
        return any(member.tasks for member in self._pool.members)

    def paint(
        self,
        batches: Sequence[Batch],
        recorder: Recorder,
        progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:
        """Paints batches until it is stopped, and records their pairs."""
        self._waiting.extend(map(Task, batches))
        try:
            self._paint_waiting(recorder, progress, stopped)
        except InputError as error:
            recorder.trouble = str(error)
        for folder in self._torn:
            remove_leftovers(folder)
        if self._ticket is not None:
            self._ticket.path.unlink(missing_ok=True)

    def _paint_waiting(
        self, recorder: Recorder, progress: Progress, stopped: Callable[[], bool]
    ) -> None:
        told = False
        while self._waiting or self._elsewhere or self.is_busy():
            if stopped():
                self._waiting.clear()
                self._elsewhere.clear()
                for member in () if told else self._pool.usable():
                    member.actor.stop.remote()
                told = True
            else:
                self._pool.hire(self._wanted())
                self._assign_elsewhere(recorder)
                self._assign()
            for member in self._pool.usable():
                progress.join(member.name)
            self._collect(recorder)
            progress.show_pairs()

    def _wanted(self) -> int:
        """Returns how many workers could have something to do."""
        busy = sum(len(member.tasks) for member in self._pool.members)
        # Those that have a worker may be on the node that could not read them.
        elsewhere = len(self._elsewhere) + len(self._pool.usable()) if self._elsewhere else 0
        return len(self._waiting) + busy + elsewhere

    def _assign(self) -> None:
        """Gives waiting batches to workers, one to each before any has two."""
        while members := [member for member in self._pool.trusted() if member.has_room]:
            member = min(members, key=lambda each: len(each.tasks))
            if not self._waiting or (self._waiting[0].deaths and member.tasks):
                return  # a worker with nothing else to do must take it
            self._give(self._waiting.popleft(), member)

    def _assign_elsewhere(self, recorder: Recorder) -> None:
        """Gives batches that a node could not read to other nodes; without any, they fail."""
        waiting, self._elsewhere = self._elsewhere, []
        for task in waiting:
            others = self._pool.others(task.blind)
            if not others and not self._pool.may_gain(task.blind):
                recorder.add(*task.unread)
            elif free := [member for member in others if member.has_room]:
                self._give(task, min(free, key=lambda each: len(each.tasks)))
            else:
                self._elsewhere.append(task)

    def _give(self, task: Task, member: Member) -> None:
        member.tasks[member.actor.paint.remote(task.batch)] = task

    def _collect(self, recorder: Recorder | None) -> None:
        """Waits for a worker that has something to say."""
        owners: dict[Any, Member] = {}
        for member in self._pool.members:
            owners.update(dict.fromkeys(member.tasks, member))
            if member.starting is not None:
                owners[member.starting] = member
        if not owners:
            time.sleep(_POLL)
            return
        done, _ = ray.wait([*owners], timeout=_POLL)
        for each in done:
            member = owners[each]
            if each is member.starting:
                found = self._pool.start(member)
                if found is not None:
                    self._machine = self._machine or found.machine
            elif recorder is not None:
                self._take(member, each, recorder)

    def _take(self, member: Member, result: Any, recorder: Recorder) -> None:
        """Records what a worker has painted, or gives its batches to others."""
        try:
            outcome: Outcome = ray.get(result)
        except ray.exceptions.RayTaskError as error:
            if not isinstance(error.cause, DeviceError):
                raise error.cause from None
            for task in self._pool.retire(member, str(error.cause)):
                self._try_again(task, recorder, str(error.cause), starved=False, alive=False)
        except ray.exceptions.RayError as error:
            tasks, alive = self._pool.lose(member)
            outputs = [pair.output for task in tasks for pair in task.batch.pairs]
            self._torn.update(path.parent for path in outputs if isinstance(path, Path))
            starved = is_starved(error)
            # A node that was lost a moment ago still counts as alive.
            reason = "its worker was lost" if alive else "the node was lost"
            reason = "out of memory" if starved else reason
            print_message(f"{member.name}: {reason}{self._pool.others_go_on()}")
            for task in tasks:
                self._try_again(task, recorder, reason, starved=starved, alive=alive)
        else:
            self._record(member, member.tasks.pop(result), outcome, recorder)

    def _record(self, member: Member, task: Task, outcome: Outcome, recorder: Recorder) -> None:
        """Records what a worker has painted; what its node cannot read or write, others try."""
        recorder.add(*outcome.entries, node=member.name)
        outputs = {entry["output"] for entry in outcome.unread}
        others = self._pool.others(member.node) or self._pool.may_gain(member.node)
        if outcome.entries or not outcome.unread:
            self._pool.doubts[member.node] = 0
        if outcome.unread and (task.blind or not others):  # no node can read them
            self._pool.doubts[task.blind] = 0
            recorder.add(*outcome.unread, node=member.name)
        elif outcome.unread:
            print_message(f"{member.name}: {outcome.unread[0]['error']}; another node tries it")
            if not outcome.entries:
                self._pool.doubt(member)
            part = _part(task.batch, outputs)
            self._elsewhere.append(Task(part, task.deaths, member.node, outcome.unread))
        if outcome.trouble is None:
            self._troubles = 0
        elif not others or self._troubles >= _TROUBLES:
            recorder.trouble = recorder.trouble or outcome.trouble
        else:
            if not member.idle:
                self._troubles += 1
                self._pool.exclude(member.node, outcome.trouble)
            outputs.update(entry["output"] for entry in outcome.entries)
            missing = {pair.row.output for pair in task.batch.pairs} - outputs
            self._waiting.appendleft(dataclasses.replace(task, batch=_part(task.batch, missing)))

    def _try_again(
        self, task: Task, recorder: Recorder, reason: str, *, starved: bool, alive: bool
    ) -> None:
        """Lets another worker paint a batch: with fewer lanes if memory was short, or may be.

        Nobody knows which of its pairs a worker has died of, so in the end each is alone.
        """
        batch, deaths = task.batch, task.deaths + 1
        if deaths >= _DEATHS:
            problem = f"{deaths} workers died while they painted it: {reason}"
            for index in batch.wanted:
                origin = origin_of(batch.pairs[index], self._network)
                recorder.add({**origin, "error": problem})
        elif deaths == _DEATHS - 1:
            size = 1 if starved or alive else batch.size
            for index in batch.wanted:
                alone = dataclasses.replace(batch, wanted=(index,), size=size)
                self._waiting.appendleft(Task(alone, deaths))
        else:
            size = -(-batch.size // 2) if starved else batch.size
            again = dataclasses.replace(batch, size=size)
            self._waiting.appendleft(Task(again, deaths))


def _part(batch: Batch, outputs: Container[str]) -> Batch:
    """Returns a batch of which only some outputs are wanted."""
    pairs = batch.pairs
    wanted = tuple(index for index in batch.wanted if pairs[index].row.output in outputs)
    return dataclasses.replace(batch, wanted=wanted)
