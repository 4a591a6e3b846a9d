"""Runs: begun, taken, left, read; and who works on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Select, delete, func, insert, select, update

from gpo_dspy.errors import RunBusy, StorageError
from gpo_dspy.storage.columns import chunks, insert_into, now
from gpo_dspy.storage.owners import is_gone
from gpo_dspy.storage.rows import NewRun, Owner, PredictorRow, RunRow, RunStatus
from gpo_dspy.storage.schema import details, links, owners, predictors, runs, steps

_LAST_BEAT = (now() - owners.c.beat).label("silence")


def create(connection: Connection, new: NewRun, owner: Owner) -> int:
    """Begin a run and return its id."""
    row = {
        "identity": new.identity,
        "study": new.study,
        "status": RunStatus.RUNNING.name,
        "owner": owner.id,
        "seconds": 0.0,
    }
    made = connection.execute(insert(runs).values(created=now(), updated=now(), **row))
    assert made.inserted_primary_key is not None  # noqa: S101 - for the type checker
    run = int(made.inserted_primary_key[0])
    connection.execute(
        insert(details),
        {
            "run": run,
            "fingerprints": new.fingerprints,
            "settings": new.settings,
            "program": new.program,
            "prompt_model": new.prompt_model,
            "plan": new.plan,
            "version": new.version,
        },
    )
    parts = [
        {"run": run, "position": i, "name": p.name, "kind": p.kind, "task": p.task}
        | {"model": p.model}
        for i, p in enumerate(new.predictors)
    ]
    if parts:
        connection.execute(insert(predictors), parts)
    _enter(connection, run, owner)
    return run


def made_by(connection: Connection, new: NewRun, owner: Owner) -> int | None:
    """Return the run of this identity that an owner works on, if there is one."""
    query = select(runs.c.id).where(runs.c.owner == owner.id, runs.c.identity == new.identity)
    return connection.execute(query.order_by(runs.c.id.desc()).limit(1)).scalar()


def take(connection: Connection, run: int, owner: Owner, lease: float) -> None:
    """Make an owner the one that works on a run.

    Raises:
        RunBusy: Another one does, and is alive.
        StorageError: There is no such run.
    """
    if not refuse_if_busy(connection, run, owner, lease):
        raise StorageError(f"The storage has no run {run}; it has been deleted.")
    former = connection.execute(select(runs.c.owner).where(runs.c.id == run)).scalar()
    connection.execute(
        update(runs)
        .where(runs.c.id == run)
        .values(owner=owner.id, status=RunStatus.RUNNING.name, updated=now())
    )
    _enter(connection, run, owner)
    if former not in (None, owner.id):
        connection.execute(delete(owners).where(owners.c.id == former))


def refuse_if_busy(connection: Connection, run: int, owner: Owner | None, lease: float) -> bool:
    """Keep a run as it is until the end of the transaction; return whether it is there.

    Raises:
        RunBusy: A live owner other than the one given works on it.
    """
    query = select(runs.c.owner).where(runs.c.id == run).with_for_update()
    found = connection.execute(query).one_or_none()
    if found is None:
        return False
    if found.owner is not None and (owner is None or found.owner != owner.id):
        for row in living(connection, [found.owner], lease).values():
            raise RunBusy(
                f"Process {row.pid} on {row.host.split()[0]} works on run {run} (last sign of life "
                f"{row.silence:.0f} seconds ago); wait until it ends, or stop it."
            )
    return True


def _enter(connection: Connection, run: int, owner: Owner) -> None:
    values = {"run": run, "host": owner.host, "pid": owner.pid, "began": owner.began, "beat": now()}
    connection.execute(
        insert_into(connection.dialect.name, owners)
        .values(id=owner.id, **values)
        .on_conflict_do_update(index_elements=["id"], set_=values)
    )


def leave(
    connection: Connection, run: int, owner: Owner, status: RunStatus, result: str | None
) -> None:
    """End an owner's work on a run; if another has taken it over, only the owner goes."""
    mine = (runs.c.id == run) & (runs.c.owner == owner.id)
    left = connection.execute(
        update(runs).where(mine).values(owner=None, status=status.name, updated=now())
    )
    if left.rowcount and result is not None:
        connection.execute(update(details).where(details.c.run == run).values(result=result))
    connection.execute(delete(owners).where(owners.c.id == owner.id))


def beat(connection: Connection, owner: Owner) -> None:
    """Note that an owner is alive.

    Raises:
        RunBusy: It is not an owner any more.
    """
    found = connection.execute(update(owners).where(owners.c.id == owner.id).values(beat=now()))
    if not found.rowcount:
        raise lost(owner)


def lost(owner: Owner, run: int | None = None) -> RunBusy:
    """Return the error for an owner whose run is not its own any more."""
    which = "The run" if run is None else f"Run {run}"
    return RunBusy(
        f"{which} does not belong to this process (pid {owner.pid}) any more: it was deleted, or "
        "another process took it over after a minute without a sign of life."
    )


def living(connection: Connection, ids: Iterable[str], lease: float) -> dict[str, Any]:
    """Return those of some owners that are alive, by id.

    Args:
        connection: Where to look.
        ids: The owners' ids.
        lease: Seconds without a heartbeat after which an owner counts as dead.
    """
    columns = (owners.c.id, owners.c.host, owners.c.pid, owners.c.began, _LAST_BEAT)
    rows = [
        row
        for part in chunks(ids)
        for row in connection.execute(select(*columns).where(owners.c.id.in_(part)))
    ]
    return {
        row.id: row
        for row in rows
        if row.silence < lease and not is_gone(Owner(row.id, row.host, row.pid, row.began))
    }


def get(connection: Connection, run: int, lease: float) -> RunRow | None:
    """Return a run."""
    return next(iter(_rows(connection, _query().where(runs.c.id == run), lease)), None)


def latest(
    connection: Connection, study: str | None, identity: str | None, lease: float
) -> RunRow | None:
    """Return the newest run that has all that is given."""
    query = _query().order_by(runs.c.id.desc()).limit(1)
    if study is not None:
        query = query.where(runs.c.study == study)
    if identity is not None:
        query = query.where(runs.c.identity == identity)
    return next(iter(_rows(connection, query, lease)), None)


def every(connection: Connection, lease: float) -> list[RunRow]:
    """Return all runs, the oldest first."""
    return _rows(connection, _query().order_by(runs.c.id), lease)


def _query() -> Select[Any]:
    paid = select(func.count()).where(links.c.run == runs.c.id, links.c.paid)
    done = select(func.count()).where(steps.c.run == runs.c.id)
    return (
        select(
            runs,
            *(column for column in details.c if column.name != "run"),
            paid.scalar_subquery().label("metric_calls"),
            done.scalar_subquery().label("steps"),
        )
        .select_from(runs)
        .join(details, details.c.run == runs.c.id)
    )


def _rows(connection: Connection, query: Select[Any], lease: float) -> list[RunRow]:
    found = connection.execute(query).all()
    alive = living(connection, {row.owner for row in found if row.owner}, lease)
    parts: dict[int, list[PredictorRow]] = {}
    for ids in chunks(row.id for row in found):
        wanted = select(predictors).where(predictors.c.run.in_(ids))
        for row in connection.execute(wanted.order_by(predictors.c.position)):
            part = PredictorRow(row.name, row.kind, row.task, row.model)
            parts.setdefault(row.run, []).append(part)
    return [_run_row(row, row.owner in alive, tuple(parts.get(row.id, ()))) for row in found]


def _run_row(row: Any, alive: bool, parts: tuple[PredictorRow, ...]) -> RunRow:
    values = dict(row._mapping)
    owner, status = values.pop("owner"), RunStatus[values.pop("status")]
    if owner and not alive:
        status = RunStatus.STOPPED
    return RunRow(status=status, predictors=parts, **values)
