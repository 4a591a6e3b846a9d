"""The learning rate of a prompt: how many words a rewrite may change at a given step.

A schedule is a pure function of ``step`` (counted from 1), the planned number of ``steps``, and the
best score so far after each finished step, which only :class:`WidenOnPlateau` reads::

    >>> [Cosine(start=50, end=10)(step, 5) for step in range(1, 8)]
    [50, 44, 30, 16, 10, 10, 10]
    >>> WarmUp(Cosine(start=50, end=10), steps=3, start=5)
    WarmUp(after=Cosine(start=50, end=10), steps=3, start=5)

Schedules compose instead of taking flags: :class:`Joined` runs one after the other, and
:class:`WidenOnPlateau` wraps any other. Every value is a whole number of words, at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gpo_dspy.user_functions import check_takes


@runtime_checkable
class Schedule(Protocol):
    """How many words the rewrite of one step may change."""

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:
        """Return the word budget of a step.

        Args:
            step: The step to come, counted from 1. Past ``steps`` the last value holds for ever.
            steps: Planned number of steps.
            scores: The best score so far after each finished step, oldest first.

        Returns:
            Number of words, at least 1.
        """
        ...


@dataclass(frozen=True)
class Constant:
    """The same number of words at every step.

    Attributes:
        words: The word budget.
    """

    words: int = 50

    def __post_init__(self) -> None:
        _check_whole("words", self.words)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:  # noqa: ARG002
        """Return ``words``."""
        _progress(step, steps)
        return self.words


@dataclass(frozen=True)
class Linear:
    r"""A straight line from ``start`` to ``end``.

    .. math::
        w_t = s + (e - s) \, \frac{t - 1}{T - 1}

    for step :math:`t` of :math:`T`, rounded; :math:`e` after step :math:`T`; :math:`s` if
    :math:`T = 1`.

    Attributes:
        start: Words at step 1, :math:`s`.
        end: Words at the last step, :math:`e`. It may be above ``start``.
    """

    start: int = 50
    end: int = 10

    def __post_init__(self) -> None:
        _check_whole("start", self.start)
        _check_whole("end", self.end)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:  # noqa: ARG002
        """Return the value on the line at ``step``."""
        return round(self.start + (self.end - self.start) * _progress(step, steps))


@dataclass(frozen=True)
class Cosine:
    r"""Half a cosine wave from ``start`` to ``end``: slow, fast, slow.

    .. math::
        w_t = e + \frac{s - e}{2} \left(1 + \cos \frac{\pi (t - 1)}{T - 1}\right)

    for step :math:`t` of :math:`T`, rounded; :math:`e` after step :math:`T`; :math:`s` if
    :math:`T = 1`. This is the decay of `GPO <https://arxiv.org/abs/2402.17564>`_.

    Attributes:
        start: Words at step 1, :math:`s`.
        end: Words at the last step, :math:`e`. It may be above ``start``.
    """

    start: int = 50
    end: int = 10

    def __post_init__(self) -> None:
        _check_whole("start", self.start)
        _check_whole("end", self.end)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:  # noqa: ARG002
        """Return the value on the wave at ``step``."""
        wave = (1 + math.cos(math.pi * _progress(step, steps))) / 2
        return round(self.end + (self.start - self.end) * wave)


@dataclass(frozen=True)
class Joined:
    """One schedule up to a boundary, another one after it.

    Each of the two sees its own steps only: the first is planned over ``boundary`` steps, the
    second over the rest, again counted from 1 and with the scores of its own steps.

    Attributes:
        first: Schedule of steps 1 to ``boundary``.
        second: Schedule of the steps after ``boundary``.
        boundary: Number of steps that belong to ``first``.
    """

    first: Schedule
    second: Schedule
    boundary: int

    def __post_init__(self) -> None:
        _check_whole("boundary", self.boundary)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:
        """Return the value of the schedule that owns ``step``."""
        _progress(step, steps)
        if step <= self.boundary:
            return self.first(step, self.boundary, scores)
        rest = max(1, steps - self.boundary)
        return self.second(step - self.boundary, rest, scores[self.boundary :])


@dataclass(frozen=True)
class WarmUp:
    """A straight line up to the first value of another schedule, then that schedule.

    Attributes:
        after: The schedule to warm up for.
        steps: Number of warm-up steps; the last of them has the first value of ``after``
            (a single one has ``start``).
        start: Words at step 1.
    """

    after: Schedule
    steps: int = 3
    start: int = 10

    def __post_init__(self) -> None:
        _check_whole("steps", self.steps)
        _check_whole("start", self.start)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:
        """Return the value of the ramp, or of ``after`` once warm."""
        target = self.after(1, max(1, steps - self.steps))
        return Joined(Linear(self.start, target), self.after, self.steps)(step, steps, scores)


@dataclass(frozen=True)
class WarmRestarts:
    """A cosine from ``start`` to ``end`` again and again (SGDR, https://arxiv.org/abs/1608.03983).

    The planned steps are shared out evenly, so the lengths of the cycles differ by one at most.
    With fewer steps than cycles, every step is a cycle of its own.

    Attributes:
        start: Words at the first step of each cycle.
        end: Words at the last step of each cycle.
        cycles: Number of cycles.
    """

    start: int = 50
    end: int = 10
    cycles: int = 3

    def __post_init__(self) -> None:
        _check_whole("start", self.start)
        _check_whole("end", self.end)
        _check_whole("cycles", self.cycles)

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:  # noqa: ARG002
        """Return the value of the cosine of the cycle that ``step`` falls in."""
        _progress(step, steps)
        if step > steps:
            return self.end
        cycles = min(self.cycles, steps)
        cycle = (step * cycles - 1) // steps
        first, last = cycle * steps // cycles, (cycle + 1) * steps // cycles
        return Cosine(self.start, self.end)(step - first, last - first)


@dataclass(frozen=True)
class WidenOnPlateau:
    r"""Any schedule, with larger changes while the best score stands still.

    .. math::
        w_t = \min(c, \; f^{\lfloor n / p \rfloor} \, v_t)

    where :math:`v_t` is the inner value, :math:`n` the number of finished steps since the last
    gain, :math:`p` the patience, :math:`f` the factor and :math:`c` the ceiling. A gain brings the
    inner value back; a value of the inner schedule above the ceiling is left as it is.

    Attributes:
        inner: The schedule to widen.
        patience: Steps without a gain before each widening.
        factor: What each widening multiplies the budget by, above 1.
        min_gain: By how much a score must exceed the best one to count as a gain.
        ceiling: Largest widened budget, in words.
    """

    inner: Schedule = field(default_factory=Cosine)
    patience: int = 3
    factor: float = 1.5
    min_gain: float = 0.0
    ceiling: int = 100

    def __post_init__(self) -> None:
        _check_whole("patience", self.patience)
        _check_whole("ceiling", self.ceiling)
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise ValueError(f"factor must be a finite number above 1, found {self.factor!r}.")
        if not (math.isfinite(self.min_gain) and self.min_gain >= 0):
            raise ValueError(f"min_gain must be a number of at least 0, found {self.min_gain!r}.")

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:
        """Return the inner value, widened once per ``patience`` steps without a gain."""
        inner = self.inner(step, steps, scores)
        words = float(inner)
        for _ in range(self._steps_without_gain(scores) // self.patience):
            if words >= self.ceiling:
                break
            words *= self.factor
        return max(inner, round(min(words, self.ceiling)))

    def _steps_without_gain(self, scores: Sequence[float]) -> int:
        best, stale = -math.inf, 0
        for score in scores:
            if score > best + self.min_gain:
                best, stale = score, 0
            else:
                stale += 1
        return stale


@dataclass(frozen=True)
class Checked:
    """A user's own function, with its values checked.

    Attributes:
        function: Takes ``step, steps, scores`` and returns a number of words.
    """

    function: Callable[[int, int, Sequence[float]], int]

    def __call__(self, step: int, steps: int, scores: Sequence[float] = ()) -> int:
        """Return the value of ``function``.

        Raises:
            ValueError: If the value is not a whole number of at least 1.
        """
        _progress(step, steps)
        words = self.function(step, steps, scores)
        _check_whole(f"the value of {self.function!r} at step {step} of {steps}", words)
        return words


_OWN = (Constant, Linear, Cosine, Joined, WarmUp, WarmRestarts, WidenOnPlateau, Checked)


def as_schedule(
    value: str | Schedule | Callable[[int, int, Sequence[float]], int],
    start: int = 50,
    end: int = 10,
) -> Schedule:
    """Return the schedule of that name, or the given one.

    Args:
        value: ``"constant"``, ``"linear"``, ``"cosine"``, ``"warm_restarts"``, ``"plateau"`` (a
            cosine that widens), a schedule, or a function ``step, steps, scores -> words``.
        start: Words at the first step, for a name.
        end: Words at the last step, for a name; a constant has ``start`` throughout.

    Raises:
        ValueError: If there is no schedule of that name.
        TypeError: If ``value`` is neither a name nor callable.
    """
    named: dict[str, Callable[[], Schedule]] = {
        "constant": lambda: Constant(start),
        "linear": lambda: Linear(start, end),
        "cosine": lambda: Cosine(start, end),
        "warm_restarts": lambda: WarmRestarts(start, end),
        "plateau": lambda: WidenOnPlateau(Cosine(start, end)),
    }
    allowed = f"one of {', '.join(map(repr, named))}, or a function step, steps, scores -> words"
    if isinstance(value, str):
        if value not in named:
            raise ValueError(f"schedule must be {allowed}; found {value!r}.")
        return named[value]()
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"schedule must be {allowed}; found {value!r}.")
    check_takes("schedule", value, "step", "steps", "scores")
    return value if isinstance(value, _OWN) else Checked(value)


def _progress(step: int, steps: int) -> float:
    """Return how far ``step`` is, from 0 at step 1 to 1 at the last step and after it."""
    if step < 1:
        raise ValueError(f"step is counted from 1, found {step!r}.")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, found {steps!r}.")
    if step > steps:
        return 1.0
    return (step - 1) / (steps - 1) if steps > 1 else 0.0


def _check_whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, found {value!r}.")
