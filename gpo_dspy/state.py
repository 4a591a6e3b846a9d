"""The frozen values a run is made of: a step takes a state and returns the next one.

Scores are means of the metric in [0, 1]; lengths are words (Unicode word segmentation);
steps are counted from 1, and step 0 is the student's own instruction.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ScoredPrompt:
    """One instruction that was tried, with what is known of its quality.

    Attributes:
        text: The instruction.
        score: Mean metric value in [0, 1] over the examples it was scored on.
        evaluations: Number of examples behind ``score``.
        step: Step that wrote it; 0 is the student's own instruction.
    """

    text: str
    score: float
    evaluations: int
    step: int
