"""The journal of a run: what it learns from outside, kept so that it can be carried on.

:class:`Journal` is that of a run without a storage and keeps nothing;
:class:`gpo_dspy.journal.stored.StoredJournal` writes everything through to one.
:mod:`gpo_dspy.journal.opening` finds the run to carry on.
"""

from gpo_dspy.journal.base import Journal, Pair

__all__ = ["Journal", "Pair"]
