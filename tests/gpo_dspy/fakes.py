"""Scripted LMs and a toy task for tests of the optimizer itself."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, TypeVar

import dspy
from dspy.lm15 import Message, Request, Response, Usage

from gpo_dspy import GPO, GPOResult
from gpo_dspy.backend_errors import Patience
from gpo_dspy.evaluation.runner import Evaluation, Job, Outcome, Runner
from gpo_dspy.evaluation.scoreboard import Scoreboard
from gpo_dspy.execution.scheduler import Scheduler
from gpo_dspy.journal import Pair

T = TypeVar("T")

_names = count()

NO_WAITING = Patience(attempts=3, first_wait=0.0, longest_wait=0.0)
"""Tries as often as it says, without waiting in between."""


@dataclass
class Prompted:
    """What an LM was asked: the system text, the last user text and the fields in it.

    ``earlier`` are the turns before the last one: the demos.
    """

    system: str
    user: str
    earlier: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, str]:
        found = re.findall(
            r"\[\[ ## (\w+) ## \]\]\n(.*?)(?=\n\n\[\[ ## |\n\nRespond with|\Z)", self.user, re.S
        )
        return {name: text.strip() for name, text in found}

    @property
    def outputs(self) -> list[str]:
        """Names of the output fields."""
        declared = self.system.split("Your output fields are:")[-1].split("All interactions")[0]
        return re.findall(r"^\d+\. `(\w+)`", declared, re.M)

    def for_variation(self, number: int, total: int) -> Prompted:
        """Return the same as if one of several variations had been asked for."""
        variation = f"[[ ## variation ## ]]\nThis is variation {number} of {total}: your own.\n\n"
        before, respond, after = self.user.rpartition("Respond with")
        return replace(self, user=f"{before}{variation}{respond}{after}")

    @property
    def instruction(self) -> str:
        """The instruction of the predictor that asks."""
        return self.system.rsplit("your objective is:", 1)[-1].strip()


Reply = Callable[[Prompted], str | Mapping[str, str]]


@dataclass
class ScriptedEngine:
    """Answers each request by a function; counts the requests."""

    reply: Reply
    reply_limit: int | None = None  # characters after which a reply is cut off
    prompts: list[Prompted] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def complete(self, request: Request) -> Response:
        system = request.system if isinstance(request.system, str) else _text(request.system or ())
        turns = [_text(message.parts) for message in request.messages]
        prompted = Prompted(system, turns[-1], tuple(turns[:-1]))
        with self.lock:
            self.prompts.append(prompted)
        answer = self.reply(prompted)
        if isinstance(answer, Mapping):
            answer = "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in answer.items())
        return Response(
            id=None,
            model=request.model,
            message=Message.assistant(answer[: self.reply_limit]),
            finish_reason="stop" if answer == answer[: self.reply_limit] else "length",
            usage=Usage(input_tokens=100, output_tokens=10, total_tokens=110),
        )

    def __deepcopy__(self, memo: object) -> ScriptedEngine:
        raise TypeError("an engine with a lock cannot be copied, like a real client")

    def dump_state(self) -> dict[str, Any]:
        return {}

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> ScriptedEngine:
        return cls(toy_solver)


def _text(parts: Any) -> str:
    return "".join(getattr(part, "text", "") for part in parts)


def scripted_lm(reply: Reply, *, cache: bool = False, reply_limit: int | None = None) -> dspy.LM:
    """Return an LM that answers by a function; its engine counts the requests."""
    engine = ScriptedEngine(reply, reply_limit)
    return dspy.LM(f"scripted/{next(_names)}", engine=engine, cache=cache, num_retries=0)


def several(reply: Reply) -> Reply:
    """Let a rewriter that writes one prompt write as many as it is asked for."""

    def each(prompted: Prompted) -> str | Mapping[str, str]:
        names = prompted.outputs
        if "improved_prompt_2" not in names:
            return reply(prompted)
        asked = [prompted.for_variation(i, len(names)) for i in range(1, len(names) + 1)]
        written = [reply(variation) for variation in asked]
        return {
            name: text["improved_prompt"]
            for name, text in zip(names, written, strict=True)
            if isinstance(text, Mapping)
        }

    return each


def rewriter_lm(reply: Reply) -> dspy.LM:
    """Return a prompt model that writes each prompt by a function."""
    return scripted_lm(several(reply))


def napping(reply: Reply, seed: int) -> Reply:
    """Let a reply take some milliseconds, others each time."""
    rng = random.Random(seed)

    def slow(prompted: Prompted) -> Any:
        time.sleep(rng.random() / 200)
        return reply(prompted)

    return slow


def story(result: GPOResult) -> dict[str, Any]:
    """Return all of a result that time has no part in."""
    plain = result.to_dict()
    del plain["seconds"]
    return plain


# --- a toy task: each example needs one word in the instruction --------------------------------

NEEDS = ("alpha", "beta", "gamma", "delta")


def toy_examples(n: int, start: int = 0) -> list[dspy.Example]:
    return [
        dspy.Example(question=f"item {i} {NEEDS[i % len(NEEDS)]}", answer=f"right {i}").with_inputs(
            "question"
        )
        for i in range(start, start + n)
    ]


def toy_solver(prompted: Prompted) -> dict[str, str]:
    """Answer right if the instruction has the word that the question needs."""
    _, number, need = prompted.fields["question"].split()
    right = re.search(rf"\b{need}\b", prompted.instruction)
    return {
        "reasoning": "by the book",
        "answer": f"right {number}" if right else "wrong",
        "next_thought": "done",  # the fields of ReAct; adapters take the ones they ask for
        "next_tool_name": "finish",
        "next_tool_args": "{}",
    }


def toy_rewriter(prompted: Prompted) -> dict[str, str]:
    """Add a word that the failures shown lack; different variations add different words."""
    fields = prompted.fields
    missing = re.findall(r"Input question: item \d+ (\w+)", fields.get("failures", ""))
    current = fields["current_prompt"]
    words = [word for word in dict.fromkeys(missing) if word not in current.split()]
    number = int(re.findall(r"variations? (\d+)", fields.get("variation", "variation 1"))[0])
    if not words:
        return {"improved_prompt": f"{current} again {number}"}
    return {"improved_prompt": f"{current} {words[number % len(words)]}"}


def toy_metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
    return bool(example.answer == prediction.answer)


def slow_difference(
    candidate: Sequence[float],
    incumbent: Sequence[float],
    seen: Sequence[int],
    known: Sequence[int],
) -> float:
    """Compare two programs, slowly: each known example stands for the mean change of its kind.

    Args:
        candidate: The candidate's score on every example.
        incumbent: The incumbent's score on every example.
        seen: Examples of the comparison.
        known: Examples on which the incumbent is known.
    """
    mean = sum(incumbent[i] for i in known) / len(known)

    def failed(index: int) -> bool:
        return incumbent[index] < 1 and incumbent[index] <= mean + 1e-12

    changes = []
    for i in known:
        alike = [j for j in seen if failed(j) == failed(i)]
        changes.append(sum(candidate[j] - incumbent[j] for j in alike) / max(len(alike), 1))
    return sum(changes) / len(known)


@dataclass
class TableRunner:
    """Looks scores up in place of running programs; counts how often each was asked for."""

    scores: Mapping[str, Sequence[float]]
    asked: Counter[tuple[str, int]] = field(default_factory=Counter)

    scheduler: Scheduler = field(default_factory=lambda: Scheduler(1))

    async def run(
        self, jobs: Sequence[Job], note: Callable[[int, Evaluation], None], keep: object
    ) -> None:
        for position, job in enumerate(jobs):
            text, index = job.program.signature.instructions, job.example.number
            self.asked[text, index] += 1
            note(position, Evaluation(self.scores[text][index], Outcome.SCORED))


def run_jobs(runner: Runner, jobs: Sequence[Job], **options: Any) -> list[tuple[int, Evaluation]]:
    """Return what came of jobs, in the order in which it came."""
    found: list[tuple[int, Evaluation]] = []
    runner.scheduler.run(runner.run(jobs, lambda *result: found.append(result), **options))
    return found


def now(board: Scoreboard, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end what waits for a scoreboard's metric calls."""
    return board.calls.runner.scheduler.run(coroutine)


def evaluate(board: Scoreboard, pairs: Iterable[Pair]) -> None:
    """Have a scoreboard evaluate pairs, and wait for it."""
    now(board, board.evaluate(pairs))


class Gauge:
    """Counts how many are within at a time, in any thread."""

    def __init__(self) -> None:
        self.most = 0
        self._within = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._within += 1
            self.most = max(self.most, self._within)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._within -= 1


class CountingMetric:
    """The toy metric; counts its calls by question, in any thread."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(
        self, example: dspy.Example, prediction: dspy.Prediction, trace: object = None
    ) -> bool:
        with self._lock:
            self.calls[example.question] += 1
        return toy_metric(example, prediction)


def toy_gpo(metric: Callable[..., Any] = toy_metric, **arguments: Any) -> GPO:
    """Return a quiet, small, waitless optimizer for the toy task."""
    defaults: dict[str, Any] = {
        "prompt_model": rewriter_lm(toy_rewriter),
        "embedder": "hashed-ngrams",
        "num_threads": 1,
        "candidates_per_step": 4,  # the toy rewriter has few ideas
        "verbose": False,
    }
    if not {"auto", "max_metric_calls", "epochs"} & set(arguments):
        defaults["max_metric_calls"] = 150
    optimizer = GPO(metric, **(defaults | arguments))
    optimizer.patience = NO_WAITING
    return optimizer
