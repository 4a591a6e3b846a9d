"""The journal of a run with a storage: written at once, read back when the run is carried on."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from gpo_dspy.errors import StorageError
from gpo_dspy.evaluation.runner import Evaluation, Outcome
from gpo_dspy.fingerprint import digest
from gpo_dspy.journal import Journal, Pair
from gpo_dspy.journal.carried_over import CarriedOver
from gpo_dspy.journal.identity import Keys
from gpo_dspy.journal.taken_up import TakenUp
from gpo_dspy.ledger import Ledger, LMCall, Usage
from gpo_dspy.memory import Memory
from gpo_dspy.memory.seeds import seeds
from gpo_dspy.memory.text import memory_text
from gpo_dspy.meta_prompt import percent
from gpo_dspy.program_state import ProgramState
from gpo_dspy.secrets import Secrets
from gpo_dspy.settings import MemoryScope
from gpo_dspy.state import Fate, RunState, ScoredPrompt
from gpo_dspy.storage.codec import (
    evaluation_detail,
    evaluation_from,
    result_text,
    step_text,
)
from gpo_dspy.storage.owners import retire
from gpo_dspy.storage.rows import (
    Answer,
    Batch,
    Owner,
    PredictorRow,
    PromptRow,
    Remembered,
    RunStatus,
    StoredEvaluation,
)

if TYPE_CHECKING:
    from gpo_dspy.embedding import CachedEmbedder
    from gpo_dspy.result import GPOResult
    from gpo_dspy.storage import Storage
    from gpo_dspy.trajectory import Trajectory

logger = logging.getLogger(__name__)

Vector: TypeAlias = tuple[str, str, NDArray[np.float32]]
"""Name of the embedder, text, and the text's vector [d]."""

BEAT = 15.0
"""Seconds between two signs of life; a run whose owner gives none for a minute may be taken."""

TRY_AGAIN = 60.0
"""Seconds after a failed write before the next is tried; until then it all stays in memory."""

SHARED = (Outcome.SCORED, Outcome.UNPARSABLE, Outcome.REFUSED)
"""Outcomes that other runs may use: an error in the user's own code may be mended by then."""


class StoredJournal(Journal):
    """Writes through to a storage, and replays what it holds of this run.

    A storage that fails in the middle of a run does not end it: what could not be written stays
    in memory, is written as soon as the storage is back, and is reported in the end if it is not.

    Args:
        storage: Where to.
        run: The run's id there; the caller has taken it for ``owner``.
        owner: Who works on the run.
        keys: Identify metric calls.
        predictors: What each predictor is, by name.
        embedder: Makes the vectors that are kept for the memory.
        secrets: What must not be written.
        memory: Which prompts of earlier runs may be recalled.
    """

    def __init__(
        self,
        storage: Storage,
        run: int,
        owner: Owner,
        keys: Keys,
        predictors: Mapping[str, PredictorRow],
        embedder: CachedEmbedder,
        secrets: Secrets,
        memory: MemoryScope = True,
    ) -> None:
        self._memory = memory
        self._searched: Memory | None = None
        self.storage, self.run = storage, run
        self._owner, self._keys, self._predictors = owner, keys, predictors
        self._embedder, self._secrets = embedder, secrets
        row = storage.run(run)
        self.seconds_before = row.seconds if row else 0.0
        self._began = time.monotonic() - self.seconds_before
        known = storage.journal(run)
        self._known, self._answers = dict(known.evaluations), dict(known.answers)
        self._readings = dict(known.readings)
        carried = CarriedOver.of(self._readings)
        self.metric_calls_before, self.usage_before = carried.metric_calls, carried.usage
        self._inherited = dict(storage.journal(carried.run).answers) if carried.run else {}
        taken_up = TakenUp.of(self._answers)
        self.start, self.programs = taken_up.start, taken_up.programs
        self.prompts = taken_up.prompts
        self._origin = f"comes from run {carried.run} of the same study, carried on with changes"
        self._asked: Counter[str] = Counter()
        self._states: dict[ProgramState, str] = {}
        self._written: set[tuple[str, str]] = set()
        self._prompts: dict[tuple[str, str], ScoredPrompt] = {}
        self._lm_calls: deque[LMCall] = deque()
        self._unsaved: deque[Batch] = deque()
        self._failed: tuple[float, StorageError] | None = None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        threading.Thread(target=self._live, name="gpo-heartbeat", daemon=True).start()

    # --- metric calls -------------------------------------------------------------------------

    def recall(self, pairs: Iterable[Pair]) -> dict[Pair, tuple[Evaluation, bool]]:
        known: dict[Pair, tuple[Evaluation, bool]] = {}
        for pair in pairs if self._known else ():
            stored = self._known.pop(self._key(pair), None)
            if stored is not None:
                known[pair] = (_restored(stored[0]), stored[1])
        return known

    def acquire(
        self, pairs: Sequence[Pair]
    ) -> tuple[dict[Pair, Evaluation], list[Pair], list[Pair]]:
        if self._failed:
            return {}, list(pairs), []
        by_key = {self._key(pair): pair for pair in pairs}
        try:
            acquired = self.storage.acquire(self._owner, list(by_key))
        except StorageError as error:
            self._note_failure(error)
            return {}, list(pairs), []
        found = {by_key[key]: _restored(stored) for key, stored in acquired.found.items()}
        if found:
            self._write(Batch(evaluations=tuple((e, False) for e in acquired.found.values())))
        granted = [pair for key, pair in by_key.items() if key in acquired.granted]
        return found, granted, [pair for key, pair in by_key.items() if key in acquired.held]

    def keep(self, pair: Pair, evaluation: Evaluation) -> None:
        state, index = pair
        stored = StoredEvaluation(
            key=self._key(pair),
            state=self._state(state),
            example=self._keys.examples[index],
            metric=self._keys.metric,
            score=evaluation.score,
            outcome=evaluation.outcome.name,
            feedback=self._secrets.hide(evaluation.feedback),
            detail=self._secrets.hide(evaluation_detail(evaluation)),
            usage=evaluation.usage,
            shared=evaluation.outcome in SHARED,
        )
        self._write(
            Batch(
                evaluations=((stored, True),),
                states=self._once("state", stored.state, state.to_json),
                examples=self._once("example", stored.example, lambda: self._keys.contents[index]),
            )
        )

    def release(self, pairs: Iterable[Pair]) -> None:
        keys = [self._key(pair) for pair in pairs]
        if keys and not self._failed and not self._ended.is_set():
            try:
                self.storage.release(self._owner, keys)
            except StorageError as error:
                self._note_failure(error)

    # --- everything else from outside ---------------------------------------------------------

    def answer(self, request: str, ask: Callable[[], str | Fate], ledger: Ledger) -> str | Fate:
        name = digest(self._keys.prompt_model, request)
        with self._lock:
            occurrence = self._asked[name]
            self._asked[name] += 1
        known = self._answers.pop((name, occurrence), None)
        inherited = self._inherited.pop((name, occurrence), None)
        if known is None and inherited is not None:  # its cost is counted already
            known = replace(inherited, usage=Usage())
            self._write(Batch(answers=(known,)))
        if known is None:
            with ledger.watch() as used:
                given = ask()
            known = _answer(name, occurrence, given, used.usage, self._secrets)
            self._write(Batch(answers=(known,)))
        else:
            ledger.add(known.usage)
        return Fate[known.fate] if known.fate else known.text

    def reading(self, name: str, measure: Callable[[], float]) -> float:
        if name not in self._readings:
            self._readings[name] = measure()
            self._write(Batch(readings=((name, self._readings[name]),)))
        return self._readings[name]

    def recollect(self, predictor: str, instruction: str, limit: int) -> list[tuple[str, str]]:
        name = f"memory of {predictor}"
        known = self._answers.pop((name, 0), None)
        if known is None:
            # What the study found itself comes first, whatever the memory may bring.
            found = [
                (prompt, self._origin)
                for owner, prompt in self.prompts
                if owner == predictor and prompt != instruction
            ][:limit]
            own = {prompt for prompt, _ in found}
            if self._memory and not self.programs and len(found) < limit:
                remembered = self._search_memory(predictor, instruction, limit)
                found += [pair for pair in remembered if pair[0] not in own][: limit - len(found)]
            known = Answer(name, 0, json.dumps(found, ensure_ascii=False), None, Usage())
            self._write(Batch(answers=(known,)))
        return [(text, origin) for text, origin in json.loads(known.text)]

    def lm_call(self, call: LMCall) -> None:
        self._lm_calls.append(call)  # written with the metric call or the answer it belongs to

    def step(self, state: RunState, trajectories: Mapping[str, Trajectory]) -> None:
        changed = [
            (name, prompt)
            for name, trajectory in trajectories.items()
            for prompt in trajectory
            if self._prompts.get((name, prompt.text)) != prompt
        ]
        self._prompts.update({(name, prompt.text): prompt for name, prompt in changed})
        hide = self._secrets.hide
        self._write(
            Batch(
                steps=tuple((r.step, hide(step_text(r))) for r in state.records[-1:]),
                prompts=tuple(
                    PromptRow(
                        name, hide(p.text), p.score, p.evaluations, p.step,
                        hide(memory_text(self._predictors[name].task, p.text)),
                    )
                    for name, p in changed
                ),
                vectors=self._vectors(changed),
                best_score=state.best_score,
            )
        )  # fmt: skip

    @property
    def unrecalled(self) -> int:
        return sum(paid for _, paid in self._known.values())

    def close(
        self, result: GPOResult | None, *, finished: bool, failed: bool = False
    ) -> str | None:
        if self._ended.is_set():
            return None
        self._ended.set()
        if self._searched is not None:
            self._searched.close()
        status = RunStatus.FINISHED if finished else RunStatus.STOPPED
        if failed:
            status = RunStatus.FAILED
        text = None if result is None else self._secrets.hide(result_text(result))
        try:
            with self._lock:
                self._unsaved.append(self._completed(Batch()))
                self._flush()
            self.storage.leave_run(self.run, self._owner, status, text)
        except StorageError as error:
            return f"{len(self._unsaved)} entries of the journal could not be stored: {error}"
        finally:
            retire(self._owner)
            self.storage.close()
        return None

    # --- helpers ------------------------------------------------------------------------------

    def _write(self, batch: Batch) -> None:
        """Write a batch at once; if the storage fails, keep it and go on."""
        with self._lock:
            if self._ended.is_set():  # a call that was under way when the run was interrupted
                return
            self._unsaved.append(self._completed(batch))
            if self._failed and time.monotonic() < self._failed[0] + TRY_AGAIN:
                return
            try:
                self._flush()
            except StorageError as error:
                self._note_failure(error)

    def _completed(self, batch: Batch) -> Batch:
        calls = tuple(self._lm_calls.popleft() for _ in range(len(self._lm_calls)))
        return replace(batch, lm_calls=calls, seconds=time.monotonic() - self._began)

    def _flush(self) -> None:
        """Write all that is not written yet, in order and in one transaction."""
        if self._unsaved:
            self.storage.save(self.run, self._owner, _merged(self._unsaved))
            self._unsaved.clear()
        if self._failed:
            logger.warning("The storage %s is back; nothing was lost.", self.storage.url)
            self._failed = None

    def _note_failure(self, error: StorageError) -> None:
        if not self._failed:
            logger.warning("%s The run goes on, its results stay in memory.", error)
        self._failed = (time.monotonic(), error)

    def _live(self) -> None:
        """Give a sign of life now and then, until the session ends."""
        while not self._ended.wait(BEAT):
            try:
                self.storage.beat(self._owner)
            except StorageError:  # the next write will tell
                logger.debug("no heartbeat", exc_info=True)

    def _key(self, pair: Pair) -> str:
        state, index = pair
        return key_of(self._keys, self._state(state), index)

    def _state(self, state: ProgramState) -> str:
        """Return the fingerprint of a program's state."""
        if state not in self._states:
            self._states[state] = state.key
        return self._states[state]

    def _once(self, kind: str, name: str, text: Callable[[], str]) -> tuple[tuple[str, str], ...]:
        """Return (name, text) to be written, or nothing if it was written in this session."""
        if (kind, name) in self._written:
            return ()
        self._written.add((kind, name))
        return ((name, self._secrets.hide(text())),)

    def _search_memory(self, predictor: str, instruction: str, limit: int) -> list[tuple[str, str]]:
        if self._failed or not is_lasting(self._embedder):
            return []
        row = self._predictors[predictor]
        self._searched = self._searched or Memory(self.storage, self._embedder)
        try:
            found = seeds(
                self._searched,
                row.task,
                instruction,
                kind=row.kind if self._memory == "same_kind" else None,
                model=row.model if self._memory == "same_model" else None,
                limit=limit,
                not_run=self.run,
            )
        except StorageError as error:
            self._note_failure(error)
            return []
        except ValueError as error:  # vectors of another length under the same name
            logger.warning("The memory cannot be searched: %s", error)
            return []
        return [(seed.text, _origin(seed)) for seed in found]

    def _vectors(self, prompts: Iterable[tuple[str, ScoredPrompt]]) -> tuple[Vector, ...]:
        """Return the vectors to be written: of new prompts, alone and with their task."""
        if not is_lasting(self._embedder):
            return ()
        both = ((p.text, memory_text(self._predictors[name].task, p.text)) for name, p in prompts)
        texts = [text for pair in both for text in pair if ("vector", text) not in self._written]
        self._written.update(("vector", text) for text in texts)
        if not texts:
            return ()
        rows = self._embedder(texts)
        return tuple(
            (self._embedder.name, self._secrets.hide(text), row)
            for text, row in zip(texts, rows, strict=True)
        )


def key_of(keys: Keys, state: str, index: int) -> str:
    """Return what identifies a metric call: of a state (by its fingerprint) on an example."""
    return digest(keys.program, keys.metric, state, keys.examples[index])


def _origin(seed: Remembered) -> str:
    return (
        f"comes from another task (run {seed.run}, {seed.program}), where it scored "
        f"{percent(seed.score)}"
    )


def is_lasting(embedder: CachedEmbedder) -> bool:
    """Tell whether an embedder's name says what vectors it will make tomorrow."""
    return not embedder.name.startswith("function:")


def _answer(
    name: str, occurrence: int, given: str | Fate, usage: Usage, secrets: Secrets
) -> Answer:
    if isinstance(given, Fate):
        return Answer(name, occurrence, "", given.name, usage)
    # Text by text: what hides a key may break the escapes of JSON.
    texts = [text and secrets.hide(text) for text in json.loads(given)]  # null: it was cut off
    return Answer(name, occurrence, json.dumps(texts, ensure_ascii=False), None, usage)


def _restored(stored: StoredEvaluation) -> Evaluation:
    evaluation = evaluation_from(stored.score, stored.outcome, stored.feedback, stored.detail)
    return replace(evaluation, usage=stored.usage)


def _merged(batches: Sequence[Batch]) -> Batch:
    """Return one batch that writes what all of them write; the latest value counts."""
    if len(batches) == 1:
        return batches[0]
    together = {
        part.name: tuple(item for batch in batches for item in getattr(batch, part.name))
        for part in fields(Batch)
        if isinstance(getattr(Batch(), part.name), tuple)
    }
    scores = [batch.best_score for batch in batches if batch.best_score is not None]
    best = scores[-1] if scores else None
    return Batch(**together, seconds=batches[-1].seconds, best_score=best)
