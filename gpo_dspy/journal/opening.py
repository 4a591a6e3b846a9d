"""Find a run in the storage and carry it on, or begin a new one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.data import Data
from gpo_dspy.errors import ResumeRefused
from gpo_dspy.journal import Journal
from gpo_dspy.journal.carried_over import ROLES, CarriedOver
from gpo_dspy.journal.identity import differences, keys_of, new_run
from gpo_dspy.journal.stored import StoredJournal
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan
from gpo_dspy.secrets import Secrets
from gpo_dspy.storage import Storage, new_owner, open_storage
from gpo_dspy.storage.codec import result_from
from gpo_dspy.storage.owners import retire
from gpo_dspy.storage.rows import Batch, NewRun, Owner, RunRow, RunStatus

if TYPE_CHECKING:
    from gpo_dspy.optimizer import GPO

logger = logging.getLogger(__name__)


def open_journal(
    optimizer: GPO,
    student: dspy.Module,
    prompt_model: dspy.LM,
    sets: Mapping[str, Sequence[dspy.Example]],
    data: Data,
    plan: Plan,
    secrets: Secrets,
) -> Journal:
    """Open the storage and return the journal of the run to carry on, or of a new one.

    With ``study`` that is the newest run of this name, else the newest one with equal data,
    metric, program and settings.

    Args:
        optimizer: The optimizer, with ``storage``, ``study`` and ``resume``.
        student: The program.
        prompt_model: Writes the rewrites.
        sets: The examples as they were given, by argument ("trainset", ...).
        data: The same with their roles.
        plan: The run in numbers.
        secrets: What must not be written.

    Raises:
        StorageError: The storage cannot be used.
        RunBusy: Another compile call is working on the run.
        ResumeRefused: The study's run differs from this call.
    """
    assert optimizer.storage is not None  # noqa: S101 - for the type checker
    new = new_run(optimizer, student, prompt_model, sets, plan, secrets)
    storage = open_storage(optimizer.storage, patience=optimizer.storage_patience)
    owner = new_owner()
    try:
        row = _earlier(storage, new, optimizer.resume)
        changed = differences(row, new) if row else []
        if row and changed and optimizer.resume != "force":
            raise ResumeRefused(
                f"study {new.study!r} is run {row.id} in {storage.url}, and this call differs "
                f"from it in: {', '.join(changed)}. Pass resume='force' to carry on with what it "
                "paid for, resume=False to begin anew, or another study=."
            )
        if row and not changed and row.status is RunStatus.FINISHED and row.result:
            retire(owner)
            storage.close()
            return _finished(row)
        run = _carry_on(storage, row, new, owner, changed)
        return StoredJournal(
            storage,
            run,
            owner,
            keys_of(new, data),
            {predictor.name: predictor for predictor in new.predictors},
            optimizer.embedder,
            secrets,
            optimizer.memory,
        )
    except BaseException:
        retire(owner)
        storage.close()
        raise


def _earlier(storage: Storage, new: NewRun, resume: bool | str) -> RunRow | None:
    if not resume:
        return None
    if new.study is not None:
        row = storage.latest_run(study=new.study)
    else:
        row = storage.latest_run(identity=new.identity)
    # A run that failed would fail again from its journal; what it shares costs nothing anew.
    return None if row is None or row.status is RunStatus.FAILED else row


def _finished(row: RunRow) -> Journal:
    journal = Journal()
    journal.finished = result_from(row.result or "")
    return journal


def _carry_on(
    storage: Storage, row: RunRow | None, new: NewRun, owner: Owner, changed: Sequence[str]
) -> int:
    """Return the run to work on: the earlier one, one that inherits from it, or a new one."""
    if row is None:
        return storage.create_run(new, owner)
    storage.take_run(row.id, owner)
    if not changed:
        logger.info("Run %d in %s is carried on.", row.id, storage.url)
        return row.id
    status = RunStatus.FINISHED if row.status is RunStatus.FINISHED else RunStatus.STOPPED
    storage.leave_run(row.id, owner, status, row.result)
    run = storage.create_run(new, owner)
    logger.warning(
        "Run %d carries on run %d, although these changed: %s.", run, row.id, ", ".join(changed)
    )
    batch = Batch(readings=_inheritance(storage, row).readings(), seconds=row.seconds)
    storage.save(run, owner, batch)
    return run


def _inheritance(storage: Storage, row: RunRow) -> CarriedOver:
    before = CarriedOver.of(storage.journal(row.id).readings)
    usage = {role: before.usage[role] for role in ROLES}
    for call in storage.lm_calls(row.id):
        usage[call.role] += Usage(
            1, call.input_tokens, call.output_tokens, call.cost or 0.0, call.cost is None
        )
    return CarriedOver(row.id, before.metric_calls + row.metric_calls, usage)
