"""Find a run in the storage and carry it on, or begin a new one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

import dspy

from gpo_dspy.data import Data, Split
from gpo_dspy.errors import ResumeRefused
from gpo_dspy.evaluation.race import SHARED_BLOCK
from gpo_dspy.journal import Journal
from gpo_dspy.journal.carried_over import ROLES, CarriedOver
from gpo_dspy.journal.identity import Keys, differences, keys_of, new_run
from gpo_dspy.journal.stored import StoredJournal, key_of
from gpo_dspy.journal.taken_up import TakenUp
from gpo_dspy.ledger import Usage
from gpo_dspy.plan import Plan
from gpo_dspy.program import state_of
from gpo_dspy.program_state import ProgramState
from gpo_dspy.secrets import Secrets
from gpo_dspy.storage import Storage, new_owner, open_storage
from gpo_dspy.storage.codec import result_from, step_from
from gpo_dspy.storage.owners import retire
from gpo_dspy.storage.rows import Batch, NewRun, Owner, RunRow, RunStatus, StoredEvaluation
from gpo_dspy.storage.rows import Journal as Learned

if TYPE_CHECKING:
    from gpo_dspy.optimizer import GPO

logger = logging.getLogger(__name__)

LayOut: TypeAlias = "Callable[[Split | None], tuple[Data, Plan]]"
"""Gives the examples their roles, as another run did or anew, and lays out the run over them."""

SETS = ("trainset", "valset", "testset")


def open_journal(
    optimizer: GPO,
    student: dspy.Module,
    prompt_model: dspy.LM,
    sets: Mapping[str, Sequence[dspy.Example]],
    lay_out: LayOut,
    secrets: Secrets,
) -> tuple[Journal, Data, Plan]:
    """Open the storage and return the journal of the run to carry on, or of a new one.

    With ``study`` that is the newest run of this name, else the newest one with equal data,
    metric, program and settings.

    Args:
        optimizer: The optimizer, with ``storage``, ``study`` and ``resume``.
        student: The program.
        prompt_model: Writes the rewrites.
        sets: The examples as they were given, by argument ("trainset", ...).
        lay_out: Makes the other two values that are returned.
        secrets: What must not be written.

    Returns:
        The journal, the examples with their roles, and the run in numbers.

    Raises:
        ValueError: The examples cannot be used, or the budget does not pay for one step.
        StorageError: The storage cannot be used.
        RunBusy: Another compile call is working on the run.
        ResumeRefused: The study's run differs from this call, or had spent the budget.
    """
    assert optimizer.storage is not None  # noqa: S101 - for the type checker
    data, plan = lay_out(None)  # first: what is wrong with the arguments needs no storage
    new = new_run(optimizer, student, prompt_model, sets, plan, secrets)
    call = _Call(optimizer, student, lay_out, new, data, plan)
    storage = open_storage(optimizer.storage, patience=optimizer.storage_patience)
    owner = new_owner()
    try:
        row = _earlier(storage, new, optimizer.resume)
        changed = differences(row, new) if row else []
        if row and changed and optimizer.resume != "force":
            raise ResumeRefused(
                f"study {new.study!r} is run {row.id} in {storage.url}, and this call differs "
                f"from it in: {', '.join(changed)}. Pass resume='force' to carry on with what it "
                "found and paid for, resume=False to begin anew, or another study=."
            )
        if row and not changed and row.status is RunStatus.FINISHED and row.result:
            retire(owner)
            storage.close()
            return _finished(row), data, plan
        if row is None:
            run, notice = storage.create_run(new, owner), ""
        else:
            run, notice, call = _carry_on(storage, owner, row, changed, call)
        journal = StoredJournal(
            storage,
            run,
            owner,
            keys_of(call.new, call.data),
            {predictor.name: predictor for predictor in new.predictors},
            optimizer.embedder,
            secrets,
            optimizer.memory,
        )
        journal.notice = notice
        return journal, call.data, call.plan
    except BaseException:
        retire(owner)
        storage.close()
        raise


@dataclass(frozen=True, slots=True)
class _Call:
    """A compile call, and the run it asks for."""

    optimizer: GPO
    student: dspy.Module
    lay_out: LayOut
    new: NewRun
    data: Data
    plan: Plan


def _carry_on(
    storage: Storage, owner: Owner, row: RunRow, changed: Sequence[str], call: _Call
) -> tuple[int, str, _Call]:
    """Take an earlier run over; one with changes is left, and what it found begins a new one.

    Returns:
        The run to work on, what to tell the user, and the call laid out as the run was.
    """
    storage.take_run(row.id, owner)
    learned = storage.journal(row.id)
    before = _inheritance(storage, row, learned)
    run, new, data, plan = row.id, call.new, call.data, call.plan
    try:
        split = _split(learned, row, new, changed=bool(changed))
        if split is not None:
            data, plan = _laid_out(call.lay_out, split, plan, row, before)
            new = replace(new, plan=asdict(plan))
        if changed:
            start, keys = state_of(call.student), keys_of(new, data)
            taken_up, results = _found(storage, row, learned, split, keys, start, data)
            _refuse_spent(row, before, plan, _start_calls(taken_up, call.optimizer, data))
            _leave(storage, row, owner)
            run = storage.create_run(new, owner)
            batch = Batch(
                readings=before.readings(),
                answers=(taken_up.answer(),),
                evaluations=tuple((result, False) for result in results),
                seconds=row.seconds,
            )
            storage.save(run, owner, batch)
    except BaseException:
        _leave(storage, row, owner)  # does nothing to a run that is left already
        raise
    how = f" by run {run}, although these changed: {', '.join(changed)}" if changed else ""
    level = logging.WARNING if changed else logging.INFO
    logger.log(level, "Run %d in %s is carried on%s.", row.id, storage.url, how)
    return run, _notice(row, before), replace(call, new=new, data=data, plan=plan)


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
    journal.notice = f"run {row.id} is finished: this is its result; resume=False begins anew"
    return journal


def _notice(row: RunRow, before: CarriedOver) -> str:
    when = datetime.fromtimestamp(row.created).astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"carrying on run {row.id} of {when}: {before.metric_calls:,} metric calls are made already"
    )


def _leave(storage: Storage, row: RunRow, owner: Owner) -> None:
    """Leave a run that was taken as it was."""
    status = RunStatus.FINISHED if row.status is RunStatus.FINISHED else RunStatus.STOPPED
    storage.leave_run(row.id, owner, status, row.result)


def _split(learned: Learned, row: RunRow, new: NewRun, *, changed: bool) -> Split | None:
    """Return how the run divided the same examples; None if they are others, or nothing is kept.

    What it kept for the claim must stay kept: the prompts that are taken up know the rest.
    """
    before = TakenUp.of(learned.answers).split
    if not changed:
        return before
    if any(row.fingerprints.get(name) != new.fingerprints.get(name) for name in SETS):
        return None
    seed = before.seed if before else int(row.settings["seed"])
    return Split(seed, row.plan["holdout"])


def _laid_out(
    lay_out: LayOut, split: Split, plan: Plan, row: RunRow, before: CarriedOver
) -> tuple[Data, Plan]:
    """Lay out the run over the split of another, which may keep more than the budget pays for."""
    try:
        return lay_out(split)
    except ValueError:
        wanted = replace(Plan(**row.plan), max_metric_calls=plan.max_metric_calls)
        _refuse_spent(row, before, wanted, SHARED_BLOCK)
        raise


def _found(
    storage: Storage,
    row: RunRow,
    learned: Learned,
    split: Split | None,
    keys: Keys,
    start: ProgramState,
    data: Data,
) -> tuple[TakenUp, tuple[StoredEvaluation, ...]]:
    """Return what a run found, and its results for that which are still valid."""
    before = TakenUp.of(learned.answers)
    records = map(step_from, storage.steps(row.id))
    accepted = [
        record.candidates[record.accepted].of(record.parent)
        for record in records
        if record.accepted is not None
    ]
    programs = dict.fromkeys([*(program for program, _ in before.programs), *accepted])
    programs.pop(start, None)
    valid = {key: e for key, (e, _) in learned.evaluations.items() if e.shared}
    kept: list[tuple[ProgramState, tuple[int, ...]]] = []
    results: dict[str, StoredEvaluation] = {}
    # Other sets give the indices, which demos name, another meaning.
    for program in (start, *programs) if split is not None else ():
        by_index = {i: key_of(keys, program.key, i) for i in (*data.train, *data.validation)}
        known = tuple(index for index, key in by_index.items() if key in valid)
        if not known and program == start:
            break  # nothing that all could be compared with
        if known:
            kept.append((program, known))
            results.update({by_index[index]: valid[by_index[index]] for index in known})
    texts = dict.fromkeys(pair for program in accepted for pair in program.instructions)
    texts.update(dict.fromkeys(before.prompts))
    texts.update(dict.fromkeys(p for program, _ in before.programs for p in program.instructions))
    scores = {(prompt.predictor, prompt.text): prompt.score for prompt in storage.prompts(row.id)}
    prompts = sorted(texts, key=lambda pair: -scores.get(pair, 0.0))
    indices = kept[0][1] if kept else ()
    taken_up = TakenUp(split, indices, tuple(kept[1:]), () if len(kept) > 1 else tuple(prompts))
    return taken_up, tuple(results.values())


def _start_calls(found: TakenUp, optimizer: GPO, data: Data) -> int:
    """Return the metric calls that are still to be made for the student's own program."""
    first = data.validation
    if optimizer.settings.evaluation == "race":
        first = data.shuffled_pool(optimizer.settings.seed)[:SHARED_BLOCK]
    return len(set(first) - set(found.start))


def _refuse_spent(row: RunRow, before: CarriedOver, plan: Plan, start_calls: int) -> None:
    """Refuse a budget of which too little is left to find anything.

    Raises:
        ResumeRefused: It does not pay for the start, a step and the claim.
    """
    needed = start_calls + plan.least_step + plan.reserve
    left = plan.max_metric_calls - before.metric_calls
    if left < needed:
        raise ResumeRefused(
            f"run {row.id} made {before.metric_calls:,} metric calls already, which resume='force' "
            f"counts: of the {plan.max_metric_calls:,} now allowed {max(left, 0):,} are left, and "
            f"{start_calls} for the start prompt, {plan.least_step} for the smallest step and "
            f"{plan.reserve} for the final claim make {needed:,}. Pass max_metric_calls="
            f"{before.metric_calls + needed} or more, or resume=False to begin anew."
        )


def _inheritance(storage: Storage, row: RunRow, learned: Learned) -> CarriedOver:
    before = CarriedOver.of(learned.readings)
    usage = {role: before.usage[role] for role in ROLES}
    for call in storage.lm_calls(row.id):
        usage[call.role] += Usage(
            1, call.input_tokens, call.output_tokens, call.cost or 0.0, call.cost is None
        )
    return CarriedOver(row.id, before.metric_calls + row.metric_calls, usage)
