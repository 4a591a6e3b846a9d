"""What a run takes over from one that it carries on although something changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from gpo_dspy.ledger import Usage

ROLES = ("task", "prompt")


@dataclass(frozen=True, slots=True)
class CarriedOver:
    """What the other run spent; budgets count it.

    Attributes:
        run: The other run's id; 0 for none.
        metric_calls: Metric calls it had spent, those it had taken over included.
        usage: What its LMs had used, likewise, by role ("task", "prompt").
    """

    run: int = 0
    metric_calls: int = 0
    usage: Mapping[str, Usage] = field(default_factory=dict)

    def readings(self) -> tuple[tuple[str, float], ...]:
        """Return it in the form in which a journal keeps numbers."""
        used = {
            f"before {role} {part.name}": float(getattr(usage, part.name))
            for role, usage in self.usage.items()
            for part in fields(Usage)
        }
        numbers = {"before run": float(self.run), "before metric_calls": float(self.metric_calls)}
        return tuple((numbers | used).items())

    @classmethod
    def of(cls, readings: Mapping[str, float]) -> CarriedOver:
        """Return what :meth:`readings` was made of."""

        def whole(name: str) -> int:
            return int(readings.get(f"before {name}", 0))

        usage = {
            role: Usage(
                lm_calls=whole(f"{role} lm_calls"),
                input_tokens=whole(f"{role} input_tokens"),
                output_tokens=whole(f"{role} output_tokens"),
                cost=readings.get(f"before {role} cost", 0.0),
                unpriced_calls=whole(f"{role} unpriced_calls"),
            )
            for role in ROLES
        }
        return cls(whole("run"), whole("metric_calls"), usage)
