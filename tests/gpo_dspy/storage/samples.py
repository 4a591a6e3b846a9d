"""Values to store in tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from sqlalchemy import func, select, update

from gpo_dspy.storage import new_owner
from gpo_dspy.storage.columns import now
from gpo_dspy.storage.rows import (
    Answer,
    Batch,
    LMCall,
    NewRun,
    Owner,
    PredictorRow,
    PromptRow,
    StoredEvaluation,
    Usage,
)
from gpo_dspy.storage.schema import metadata, owners
from gpo_dspy.storage.storage import Storage

Open = Callable[..., Storage]

QA = PredictorRow("answer", "ChainOfThought", "question -> answer", "solver")
RANK = PredictorRow("rank", "Predict", "items -> order", "judge")


def new_run(identity: str = "identity", **changes: Any) -> NewRun:
    values: dict[str, Any] = {
        "identity": identity,
        "study": None,
        "fingerprints": {"metric": "m1", "data": "d1"},
        "settings": {"seed": 0, "steps": [1, None, 2.5], "name": "größer"},
        "program": "Answers",
        "prompt_model": "writer",
        "predictors": (QA, RANK),
        "plan": {"metric_calls": 100},
        "version": "0.1.0",
    }
    return NewRun(**(values | changes))


def evaluation(number: int = 0, **changes: Any) -> StoredEvaluation:
    values: dict[str, Any] = {
        "key": f"key {number:03}",
        "state": f"state {number % 3}",
        "example": f"example {number}",
        "metric": "metric",
        "score": number / 1000,
        "outcome": "SCORED",
        "feedback": f"feedback {number}",
        "detail": f'{{"answer": {number}}}',
        "usage": Usage(1, 100, 10, 0.001 * number, 0),
        "shared": True,
    }
    return StoredEvaluation(**(values | changes))


def lm_call(number: int = 0, **changes: Any) -> LMCall:
    values = {"role": "task", "model": "solver", "input_tokens": 100, "output_tokens": number}
    return LMCall(**(values | {"cost": None, "at": 1000.0 + number} | changes))


def prompt(text: str = "Think.", **changes: Any) -> PromptRow:
    values: dict[str, Any] = {"predictor": "answer", "text": text, "score": 0.5, "evaluations": 4}
    values |= {"step": 1, "memory_text": f"question -> answer: {text}"}
    return PromptRow(**(values | changes))


def vector(*values: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


def elsewhere() -> Owner:
    """Return an owner on a machine whose processes cannot be seen from here."""
    return replace(new_owner(), host="elsewhere boot pid:[1]")


def silent(storage: Storage, owner: Owner, seconds: float) -> None:
    """Let the last heartbeat of an owner be some seconds ago."""
    change = update(owners).where(owners.c.id == owner.id).values(beat=now() - seconds)
    storage._database.write(lambda connection: connection.execute(change))


def count_rows(storage: Storage) -> dict[str, int]:
    """Count the rows of every table."""
    return storage._database.read(
        lambda c: {
            table.name: c.execute(select(func.count()).select_from(table)).scalar_one()
            for table in metadata.sorted_tables
        }
    )


def full_batch(number: int = 0) -> Batch:
    """Return a batch with something of everything."""
    text = prompt(f"Think {number}.")
    return Batch(
        evaluations=((evaluation(number), True),),
        states=((f"state {number % 3}", f'{{"state": {number % 3}}}'),),
        examples=((f"example {number}", f'{{"example": {number}}}'),),
        answers=(Answer(f"request {number}", 0, "an answer", None, Usage(1, 2, 3, 0.5, 0)),),
        readings=((f"clock {number}", 1.5),),
        lm_calls=(lm_call(number), lm_call(number, role="prompt")),
        steps=((number, f'{{"step": {number}}}'),),
        prompts=(text,),
        vectors=(("ngrams", text.memory_text, vector(number, 1)),),
        seconds=float(number),
        best_score=number / 10,
    )
