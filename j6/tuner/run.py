"""The tuning loop: batch, losses, Jacobian, update, step; look, remember, stop."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from j6.examples import Batch, EncodedExample, batch_indices, collate, in_batches
from j6.metrics import Metrics
from j6.objectives import resolve_objectives
from j6.tuner.answers import AnswerRunner
from j6.tuner.checkpoint import RunState, read_checkpoint, write_checkpoint
from j6.tuner.config import J6Config
from j6.tuner.history import EvalRecord, History, group_names
from j6.tuner.kept import KeptGradients
from j6.tuner.observe import Decision, decide, weight_names
from j6.tuner.optimizer import PromptOptimizer
from j6.tuner.progress import Progress
from j6.tuner.result import TuneResult
from j6.tuner.stopping import StopReason, has_diverged, recent_loss

logger = logging.getLogger(__name__)


class TuningRun:
    """One run of the loop over one state.

    Args:
        config: Settings.
        runner: The model with the prompt attached.
        train: Training examples.
        held_out: Validation examples, or ``None``.
        folder: Where checkpoints go, or ``None``.
    """

    def __init__(
        self,
        config: J6Config,
        runner: AnswerRunner,
        train: Sequence[EncodedExample],
        held_out: Sequence[EncodedExample] | None,
        folder: Path | None,
    ) -> None:
        self.config = config
        self.runner = runner
        self.train, self.held_out, self.folder = train, held_out, folder
        self.objectives = resolve_objectives(config.objectives)
        self.update = config.named_update()
        self.optimizer = PromptOptimizer(runner.soft_prompt)
        self.device = runner.soft_prompt.w.device
        self._lowest = math.inf
        self._bad_examples: list[int] = []

        names = [objective.name for objective in self.objectives]
        self.kept = KeptGradients(names, config.fresh_objective(), config.refresh_every)
        groups = group_names(runner.soft_prompt.config.layers or ())
        history = History(names, groups, weight_names(config.update, names, groups))
        start = self.optimizer.state()
        self.state = RunState(0, history, {"now": start, "good": start, "best": start})
        self._identity = self._describe(start)

    def to_the_end(self, resume: bool, progress: Progress) -> StopReason:
        """Run, from the last checkpoint where there is one.

        Args:
            resume: Whether to look for a checkpoint.
            progress: Shows how far the run is.

        Returns:
            Why it ended.

        Raises:
            ValueError: If the checkpoint is of another run.
        """
        if not (resume and self._resumed()) and not self._look():
            return StopReason.NOT_FINITE
        while (reason := self._reason_to_stop()) is None:
            if (reason := self._step()) is not None:
                break
            history = self.state.history
            losses = zip(history.objectives, history.steps[-1].losses, strict=True)
            progress.show(self.state.step, dict(losses))
            if self._due(self.config.eval_every) and not self._look():
                return StopReason.NOT_FINITE
            if self._due(self.config.checkpoint_every):
                self._checkpoint()
        return reason

    def result(self, reason: StopReason) -> TuneResult:
        """Put the prompt into the state it is given back in.

        Args:
            reason: Why the run ended.

        Returns:
            The result.
        """
        state = self.state
        kind, step = "now", state.step
        if self.held_out is not None:
            kind, step = "best", state.best_step
        elif reason.went_wrong:
            kind, step = "good", state.good_step
        if kind != "now":
            self.optimizer.restore(state.tensors[kind])
        message = f"stopped after {state.step} steps: {reason.value}"
        if self._bad_examples:
            message += f" (training examples {sorted(set(self._bad_examples))})"
        if state.best_score is not None:
            message += f"; best validation score {state.best_score:.4g} after {step} steps"
        return TuneResult(self.runner.soft_prompt, state.history, step, reason, message)

    def _step(self) -> StopReason | None:
        """Take one step, or change nothing and say why none can be taken."""
        step = self.state.step + 1
        places = batch_indices(step, self.config.batch_size, len(self.train), self.config.seed)
        batch = collate([self.train[place] for place in places], self.device)
        kept = self.kept.for_step(step)
        values, jacobian, decision = self._try(batch, step, kept)
        if kept and not any(decision.record.norms):  # only new gradients tell that there are none
            values, jacobian, decision = self._try(batch, step, {})
        if not decision.finite:
            good = values.isfinite().all(0).tolist()
            self._bad_examples = [i for i, fine in zip(places, good, strict=True) if not fine]
            return StopReason.NOT_FINITE
        if not any(decision.record.norms):
            return StopReason.NO_GRADIENT
        if step == 1:
            self._warn_of_constants(decision.record.norms)
        self.state.history.steps.append(decision.record)
        self._remember_if_good()
        self.optimizer.step(decision.direction, decision.record.learning_rate)
        if decision.record.refreshed:
            self.kept.keep(jacobian)
        self.state.step = step
        return None

    def _try(
        self, batch: Batch, step: int, kept: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Decision]:
        """Values ``[K, B]``, Jacobian ``[K, P, n·d]``, and what the update makes of them."""
        values, jacobian = self.runner.jacobian(batch, self.objectives, kept)
        rate = self.config.learning_rate_at(step)
        losses = values.mean(1)
        decision = decide(self.update, losses, jacobian, step, rate, refreshed=not kept)
        return values, jacobian, decision

    def _warn_of_constants(self, norms: Sequence[float]) -> None:
        for objective, norm in zip(self.objectives, norms, strict=True):
            if norm == 0:
                name = objective.name
                logger.warning("objective %r has no gradient at first and takes no part yet", name)

    def _remember_if_good(self) -> None:
        """Keep the parameters as the current losses found them, if those are the lowest."""
        recent = recent_loss([record.losses[0] for record in self.state.history.steps])
        if recent <= self._lowest:
            self._lowest = recent
            self.state.tensors["good"] = self.optimizer.state()
            self.state.good_step = self.state.step

    def _reason_to_stop(self) -> StopReason | None:
        state, patience = self.state, self.config.patience
        losses = [record.losses[0] for record in state.history.steps]
        if losses and has_diverged(recent_loss(losses), self._lowest):
            return StopReason.DIVERGED
        if patience is not None and state.looks_since_best >= patience:
            return StopReason.NO_IMPROVEMENT
        return StopReason.MAX_STEPS if state.step >= self.config.max_steps else None

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.config.max_steps

    def _look(self) -> bool:
        """Measure on the validation set and keep the best; ``False`` if it gave NaN or infinity."""
        if self.held_out is None:
            return True
        state = self.state
        if state.history.untuned is None:
            untuned = self._measure(tuned=False)
            if not untuned.finite:
                return False
            state.history.untuned = untuned
        metrics = self._measure(tuned=True)
        if not metrics.finite or not math.isfinite(score := self.config.score(metrics)):
            return False
        state.history.evaluations.append(EvalRecord(state.step, metrics, score))
        if state.best_score is None or score < state.best_score:
            state.best_score, state.best_step, state.looks_since_best = score, state.step, 0
            state.tensors["best"] = self.optimizer.state()
        else:
            state.looks_since_best += 1
        return True

    def _measure(self, *, tuned: bool) -> Metrics:
        batches = in_batches(self.held_out or (), 2 * self.config.batch_size, self.device)
        return self.runner.measure(batches, tuned=tuned)

    def _checkpoint(self) -> None:
        if self.folder is not None:
            self.state.tensors["now"] = self.optimizer.state()
            self.state.tensors["kept"] = self.kept.rows
            write_checkpoint(self.folder, self.state, self._identity)

    def _resumed(self) -> bool:
        if self.folder is None:
            return False
        state = read_checkpoint(self.folder, self._identity)
        if state is None:
            return False
        leaves = self.runner.soft_prompt.leaves()
        like = torch.cat([leaves.h, leaves.w[None]]).flatten(1)  # a row of the Jacobian
        self.kept.restore(state.tensors.get("kept", {}), like, self.folder)
        self.state = state
        self.optimizer.restore(state.tensors["now"])
        losses = [record.losses[0] for record in state.history.steps]
        recents = [recent_loss(losses[: i + 1]) for i in range(len(losses))]
        self._lowest = min(recents, default=math.inf)
        return True

    def _describe(self, start: dict[str, Tensor]) -> dict[str, Any]:
        """What a checkpoint must have in common with a run to be its own."""
        made_for = self.runner.soft_prompt.made_for.to_json()
        made_for.pop("name")
        made_for["embedding"] = list(made_for["embedding"])
        made_for["parameters"] = _digest(repr(made_for["parameters"]).encode())
        return {
            "config": self.config.describe(),
            "examples": _digest(repr((self.train, self.held_out)).encode()),
            "start": _digest(*(start[name].cpu().numpy().tobytes() for name in sorted(start))),
            "model": made_for,
        }


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()
