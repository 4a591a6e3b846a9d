"""What is stored of one run, read back for its replay and for people."""

from __future__ import annotations

from sqlalchemy import Connection, select

from gpo_dspy.storage import evaluations
from gpo_dspy.storage.rows import Answer, Journal, LMCall, PromptRow
from gpo_dspy.storage.schema import answers, lm_calls, prompts, readings
from gpo_dspy.storage.schema import steps as steps_table


def journal(connection: Connection, run: int) -> Journal:
    """Return all that a run learned from outside."""
    asked = connection.execute(select(answers).where(answers.c.run == run))
    seen = connection.execute(
        select(readings.c.name, readings.c.value).where(readings.c.run == run)
    )
    return Journal(
        evaluations.of_run(connection, run),
        {
            (row.request, row.occurrence): Answer(
                row.request, row.occurrence, row.text, row.fate, evaluations.usage_of(row)
            )
            for row in asked
        },
        {row.name: row.value for row in seen},
    )


def steps(connection: Connection, run: int) -> list[str]:
    """Return the JSON text of a run's steps, in order."""
    query = select(steps_table.c.record).where(steps_table.c.run == run)
    return list(connection.execute(query.order_by(steps_table.c.number)).scalars())


def prompts_of(connection: Connection, run: int) -> list[PromptRow]:
    """Return the prompts of a run in the order they were stored."""
    names = ("predictor", "text", "score", "evaluations", "step", "memory_text")
    query = select(*(prompts.c[name] for name in names)).where(prompts.c.run == run)
    return [PromptRow(**row._mapping) for row in connection.execute(query.order_by(prompts.c.id))]


def lm_calls_of(connection: Connection, run: int) -> list[LMCall]:
    """Return what each LM call of a run used, in the order they were answered."""
    names = ("role", "model", "input_tokens", "output_tokens", "cost", "at")
    query = select(*(lm_calls.c[name] for name in names)).where(lm_calls.c.run == run)
    ordered = query.order_by(lm_calls.c.at, lm_calls.c.digest)
    return [LMCall(**row._mapping) for row in connection.execute(ordered)]
