"""Who evaluates what right now, so that no two processes pay for the same."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, delete, select, update

from gpo_dspy.storage.columns import chunks, insert_missing
from gpo_dspy.storage.evaluations import stored_under
from gpo_dspy.storage.rows import Acquired, Owner
from gpo_dspy.storage.runs import living, lost
from gpo_dspy.storage.schema import claims, owners

_RUN = select(owners.c.run).where(owners.c.id == bindparam("owner_"))

_RELEASE = delete(claims).where(
    claims.c.key == bindparam("key_"), claims.c.owner == bindparam("owner_")
)


def acquire(connection: Connection, owner: Owner, keys: Sequence[str], lease: float) -> Acquired:
    """Return what is stored of some keys, and claim the rest for an owner.

    Args:
        connection: Inside a transaction.
        owner: Who wants to evaluate them.
        keys: The keys, in any order.
        lease: Seconds without a heartbeat after which an owner counts as dead.

    Raises:
        RunBusy: The owner's run was taken over.
    """
    run = connection.execute(_RUN, {"owner_": owner.id}).scalar()
    if run is None:
        raise lost(owner)
    wanted = sorted(set(keys))  # sorted, so that two that want the same wait in one direction
    found = stored_under(connection, wanted, run)
    rest = [key for key in wanted if key not in found]
    mine = _claim(connection, owner, rest, lease)
    if connection.dialect.name != "sqlite":  # there, nobody else can write meanwhile
        # Again, after the claims: an owner may have stored its result and let go in between.
        late = stored_under(connection, rest, run)
        release(connection, owner, [key for key in late if key in mine])
        found |= late
        mine -= late.keys()
    return Acquired(found, frozenset(mine), frozenset(wanted) - found.keys() - mine)


def _claim(connection: Connection, owner: Owner, keys: Sequence[str], lease: float) -> set[str]:
    """Claim keys for an owner, those of dead owners too; return the ones it now has."""
    rows = [{"key": key, "owner": owner.id} for key in keys]
    if insert_missing(connection, claims, rows) == len(keys):
        return set(keys)
    holders = _holders(connection, keys)
    others = set(holders.values()) - {owner.id}
    dead = sorted(others - living(connection, others, lease).keys())
    if dead:
        for part in chunks(keys):
            connection.execute(
                update(claims)
                .where(claims.c.key.in_(part), claims.c.owner.in_(dead))
                .values(owner=owner.id)
            )
        holders = _holders(connection, keys)
    return {key for key, holder in holders.items() if holder == owner.id}


def _holders(connection: Connection, keys: Sequence[str]) -> dict[str, str]:
    holders: dict[str, str] = {}
    for part in chunks(keys):
        found = connection.execute(
            select(claims.c.key, claims.c.owner).where(claims.c.key.in_(part))
        )
        holders.update((key, holder) for key, holder in found)
    return holders


def release(connection: Connection, owner: Owner, keys: Sequence[str]) -> None:
    """End an owner's claims on keys."""
    rows = [{"key_": key, "owner_": owner.id} for key in sorted(keys)]
    if rows:
        connection.execute(_RELEASE, rows)
