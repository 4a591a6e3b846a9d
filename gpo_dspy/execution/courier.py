"""Calls in the other processes of an executor, as if they were made here.

DSPy's settings go along, and the LM calls come back with the result, for the ledger here to count.
"""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import dspy

from gpo_dspy.execution.parallel import next_of
from gpo_dspy.execution.pickling import pack, pickles, unpack
from gpo_dspy.ledger import Ledger, LMCall

logger = logging.getLogger(__name__)

R = TypeVar("R")

OF_ONE_CALL = frozenset({
    "trace", "caller_predict", "caller_modules", "usage_tracker", "send_stream", "stream_listeners",
})  # fmt: skip
"""DSPy settings that belong to the call under way, and stay where they are."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call brings back.

    Attributes:
        packed: Its result, or the exception that it raised.
        raised: Whether it raised.
        lm_calls: The LM calls that ended in its process since the last reply of the same sender.
    """

    packed: bytes
    raised: bool
    lm_calls: tuple[LMCall, ...]


class Courier(Generic[R]):
    """Makes calls of one function in an executor's other processes.

    Args:
        executor: The executor.
        function: Called with a value that many calls share (a program), one of its own (an
            example), and a ledger.
        ledger: Counts the LM calls.
        sender: Tells the LM calls of one run from those of another in the same processes.

    Raises:
        ValueError: The function, or one of DSPy's settings, does not pickle.
    """

    def __init__(
        self,
        executor: Executor,
        function: Callable[[Any, Any, Ledger], R],
        ledger: Ledger,
        sender: str,
    ) -> None:
        self._executor = executor
        self._function = pack(function, "evaluator")
        self._settings = _packed_settings()
        self._ledger = ledger
        self._sender = sender
        self._shared: dict[int, tuple[Any, bytes]] = {}

    def submit(self, shared: Any, own: Any, keep: Callable[[R], None]) -> Future[R]:
        """Begin a call.

        Args:
            shared: A value that several calls get; it is pickled once.
            own: A value of this call.
            keep: Told the result as soon as it is here, in whatever thread.

        Raises:
            ValueError: A value does not pickle.
        """
        if id(shared) not in self._shared:  # the object is kept, so that its id stays its own
            self._shared[id(shared)] = (shared, pack(shared, "program"))
        sent: Future[Reply] = self._executor.submit(
            call_elsewhere,
            self._sender,
            self._settings,
            self._function,
            self._shared[id(shared)][1],
            pack(own, "example"),
        )

        def receive(reply: Reply) -> R:
            for call in reply.lm_calls:
                self._ledger.count(call)
            value = unpack(reply.packed)
            if reply.raised:
                raise value
            keep(value)
            result: R = value
            return result

        return _Received(sent, receive)


class _Received(Future[R]):
    """The future of what is made of a reply, in the thread that brings it."""

    def __init__(self, sent: Future[Reply], receive: Callable[[Reply], R]) -> None:
        super().__init__()
        self._sent = sent
        self._receive = receive
        sent.add_done_callback(self._finish)

    def cancel(self) -> bool:
        """Cancel the call, if it has not begun."""
        return self._sent.cancel()

    def _finish(self, sent: Future[Reply]) -> None:
        if sent.cancelled():
            super().cancel()
            return
        try:
            self.set_result(self._receive(sent.result()))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self.set_exception(error)


def call_elsewhere(
    sender: str, settings: bytes, function: bytes, shared: bytes, own: bytes
) -> Reply:
    """Make a call, in the process that it was sent to."""
    counted = _counted(sender)
    with dspy.context(**_unpack_once(settings), trace=[], caller_modules=[]):
        try:
            result = _unpack_once(function)(_unpack_once(shared), unpack(own), counted.ledger)
            return Reply(pack(result, "evaluation"), False, counted.taken())
        except Exception as error:  # noqa: BLE001 - raised again where the call came from
            sayable = error if pickles(error) else RuntimeError(f"{type(error).__name__}: {error}")
            return Reply(pack(sayable, "error"), True, counted.taken())


_unpack_once = lru_cache(maxsize=16)(unpack)  # settings, function, the programs of one step


@lru_cache(maxsize=64)
def _counted(sender: str) -> _Counted:  # noqa: ARG001 - the key
    return _Counted()


class _Counted:
    """The LM calls of one run in this process, until the next reply takes them along.

    Those of an example that was given up may end after its reply was sent.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[LMCall] = queue.SimpleQueue()
        self.ledger = Ledger(on_call=self._waiting.put)

    def taken(self) -> tuple[LMCall, ...]:
        calls = []
        while (call := next_of(self._waiting)) is not None:
            calls.append(call)
        return tuple(calls)


def _packed_settings() -> bytes:
    """Pickle DSPy's present settings; callbacks that do not pickle are left out."""
    settings = {k: v for k, v in dspy.settings.config.items() if k not in OF_ONE_CALL}
    callbacks = settings.get("callbacks") or []
    settings["callbacks"] = [callback for callback in callbacks if pickles(callback)]
    if len(settings["callbacks"]) < len(callbacks):
        left_out = sorted(type(c).__name__ for c in callbacks if not pickles(c))
        _warn_of(", ".join(left_out))
    return pack(settings, "dspy.settings")


@lru_cache  # once, not for each block of calls
def _warn_of(callbacks: str) -> None:
    logger.warning(
        "%s: it does not pickle, so it is not told of what happens in the executor's processes.",
        callbacks,
    )
