"""Coroutines that run side by side in one thread, and the calls they wait for in others.

A step of a search waits for its calls most of the time, and so can others meanwhile. All that the
steps themselves do is done in the thread that compiles: what they share needs no lock, and where
one of them stands while another waits does not depend on luck.
"""

from __future__ import annotations

import math
import queue
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import partial
from typing import Any, Generic, TypeVar

from gpo_dspy.execution.executors import submit_here
from gpo_dspy.execution.parallel import LINGER, LOOK_UP, next_of
from gpo_dspy.execution.threads import CallingThread, DaemonThreads

T = TypeVar("T")
R = TypeVar("R")

Note = Callable[[int, Any], None]


class Wait:
    """What a coroutine waits for.

    Attributes:
        dropped: Whether a call among it was not made, or came to nothing.
        abandoned: Whether the coroutine went on without it: what still comes of it is nobody's.
    """

    dropped = abandoned = False

    @property
    def ended(self) -> bool:
        """Whether no call of it is to be made or under way."""
        return True

    def drop(self, *, cancel: bool) -> None:
        """Make no more calls; those submitted that have not begun are cancelled, if wanted."""

    def __await__(self) -> Generator[Wait, None, None]:
        yield self


class Progress(Wait):
    """A wait for any call of another coroutine to end."""


class Calls(Wait):
    """Calls of a coroutine's own: all of them must end before it goes on.

    Args:
        submit: Begins the call at a position.
        count: How many there are.
        note: Told each position and result, as they come.
        counted: Whether they are among those that run at the same time at most.
    """

    def __init__(
        self, submit: Callable[[int], Future[Any]], count: int, note: Note, *, counted: bool
    ) -> None:
        self.submit, self.note, self.counted = submit, note, counted
        self.todo = deque(range(count))
        self.under_way: dict[int, Future[Any]] = {}

    @property
    def ended(self) -> bool:
        """Whether none is to be made, and none under way."""
        return not self.todo and not self.under_way

    def drop(self, *, cancel: bool) -> None:
        """Make no more of them."""
        self.dropped = self.dropped or bool(self.todo)
        self.todo.clear()
        for future in list(self.under_way.values()) if cancel else ():
            future.cancel()


class Task(Generic[T]):
    """A coroutine that was begun.

    Attributes:
        ended: Whether it is over.
        waits_for: The calls that it waits for, if it does.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self.ended = False
        self.waits_for: Wait | None = None
        self.coroutine = coroutine
        self._result: T
        self._error: BaseException | None = None

    def end(self, result: T) -> None:
        """Take down what came of it."""
        self.ended, self.waits_for, self._result = True, None, result

    def fail(self, error: BaseException) -> None:
        """Take down why nothing came of it."""
        self.ended, self.waits_for, self._error = True, None, error

    def outcome(self) -> T:
        """Return its result, or raise its error."""
        if self._error is not None:
            raise self._error
        return self._result


class Scheduler:
    """Runs coroutines in the calling thread, the oldest first, and their calls elsewhere.

    After the first error no call begins any more. Once those under way have ended, or
    :data:`~gpo_dspy.execution.parallel.LINGER` is over, it is raised in every coroutine that waits
    for a call, so that each can save what it has. When all have ended new ones may begin.

    Args:
        most: Calls that run at the same time.
        gate: Called before each call; stops it by raising.

    Attributes:
        threads: Own threads, for calls that no executor of the user's makes.
    """

    def __init__(self, most: int, gate: Callable[[], None] = lambda: None) -> None:
        self.most = most
        self._gate = gate
        self.threads: Executor = CallingThread() if most == 1 else DaemonThreads(most)
        self._aside: Executor = CallingThread() if most == 1 else DaemonThreads()
        self._tasks: list[Task[Any]] = []
        self._arrived: queue.SimpleQueue[tuple[Calls, int]] = queue.SimpleQueue()
        self._counted = 0
        self._failure: BaseException | None = None
        self._until = math.inf
        self._broken = self._closed = False

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Task[T]:
        """Run a coroutine until it waits for calls."""
        if not self._tasks:
            self._failure, self._until, self._broken = None, math.inf, False
        task = Task(coroutine)
        self._tasks.append(task)
        self._advance(task)
        return task

    def finish(self, task: Task[T]) -> T:
        """Run all coroutines until one has ended, and return its result.

        Raises:
            BaseException: What it raised.
        """
        while not task.ended:
            try:
                self._refill()
                self._look_up()
            except BaseException as error:  # noqa: BLE001 - Ctrl-C; raised in the coroutines
                self._fail(error)
            self._raise_failure()
        return task.outcome()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return its result."""
        return self.finish(self.begin(coroutine))

    def made(self, submit: Callable[[int], Future[R]], count: int, note: Note) -> Calls:
        """Return calls to wait for; see :class:`Calls`."""
        return Calls(submit, count, note, counted=True)

    def progress(self) -> Progress:
        """Return the next call of another coroutine, to wait for."""
        return Progress()

    async def aside(self, function: Callable[[], R]) -> R:
        """Wait for a function that runs beside the calls, in a thread of its own."""
        results: dict[int, R] = {}
        begin = partial(submit_here, self._aside, lambda _: function())
        await Calls(begin, 1, results.__setitem__, counted=False)
        return results[0]

    def stop(self, error: BaseException) -> None:
        """Begin no more calls, as after an error of one; there is nothing to stop if all ended."""
        if self._tasks:
            self._fail(error)

    def close(self) -> None:
        """Let nothing begin any more, neither here nor in what still runs aside."""
        self._closed = True

    def gate(self) -> None:
        """Let what runs aside go on to its next call, or stop it.

        Raises:
            BaseException: The error that all coroutines are being told.
            CancelledError: The scheduler was closed.
        """
        if self._failure is not None:
            raise self._failure
        if self._closed:
            raise CancelledError("the run has ended")

    # --- helpers ------------------------------------------------------------------------------

    def _refill(self) -> None:
        """Begin as many calls as may run at the same time, those of the oldest task first."""
        for task in list(self._tasks):
            calls = task.waits_for
            while isinstance(calls, Calls) and calls.todo:
                if calls.counted:
                    if self._counted >= self.most:
                        break
                    self._gate()
                self._submit(calls)

    def _submit(self, calls: Calls) -> None:
        position = calls.todo.popleft()
        try:
            future = calls.submit(position)
        except BaseException:
            calls.dropped = True  # it was to be made, and was not
            raise
        calls.under_way[position] = future
        self._counted += calls.counted
        future.add_done_callback(lambda _: self._arrived.put((calls, position)))

    def _look_up(self) -> None:
        """Wait a little for a call to end; take down all that have."""
        arrived = next_of(self._arrived, LOOK_UP)
        while arrived is not None:
            self._deliver(*arrived)
            arrived = next_of(self._arrived)

    def _deliver(self, calls: Calls, position: int) -> None:
        future = calls.under_way.pop(position)
        self._counted -= calls.counted
        if calls.abandoned:
            return
        try:
            if future.cancelled():
                calls.dropped = True
                if self._failure is None:  # somebody else's doing: the executor was shut down
                    raise CancelledError("executor: it dropped a call")
            else:
                calls.note(position, future.result())
        except BaseException as error:  # noqa: BLE001 - raised in the coroutines
            calls.dropped = True
            self._fail(error)
        for task in list(self._tasks):
            waiting = task.waits_for
            if waiting is calls:
                goes_on = calls.ended and not calls.dropped
            else:
                goes_on = isinstance(waiting, Progress) and self._failure is None
            if goes_on:
                self._advance(task)

    def _fail(self, error: BaseException) -> None:
        """Begin no more calls; the first error is the one that counts, but for Ctrl-C."""
        if self._failure is None or not isinstance(error, Exception):
            self._failure = error
            self._until = time.monotonic() + (LINGER if isinstance(error, Exception) else 0.0)
        self._broken = self._broken or isinstance(error, BrokenExecutor)
        for task in self._tasks:
            if task.waits_for is not None:
                # A broken pool ends its calls itself, and trips over those cancelled.
                task.waits_for.drop(cancel=not self._broken)

    def _raise_failure(self) -> None:
        """Raise a failure in the coroutines whose calls it took away, once they may go on."""
        failure = self._failure
        if failure is None:
            return
        late = time.monotonic() >= self._until
        for task in list(self._tasks):
            if task.waits_for is not None and (late or task.waits_for.ended):
                task.waits_for.abandoned = True
                self._advance(task, failure)

    def _advance(self, task: Task[Any], error: BaseException | None = None) -> None:
        """Run a coroutine until it waits for calls or ends; an error is raised in it first."""
        task.waits_for = None
        try:
            while task.waits_for is None:
                calls = task.coroutine.throw(error) if error else task.coroutine.send(None)
                error = self._failure  # nothing begins any more
                if error is None and not (isinstance(calls, Calls) and calls.ended):
                    task.waits_for = calls
        except StopIteration as end:
            self._tasks.remove(task)
            task.end(end.value)
        except BaseException as raised:  # noqa: BLE001 - raised again by `finish`
            self._tasks.remove(task)
            task.fail(raised)
            self._fail(raised)
