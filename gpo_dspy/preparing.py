"""What a run needs before its first call: checked and laid out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import dspy

from gpo_dspy.asking import request_sizes, rewrites_per_request
from gpo_dspy.budget import Limits
from gpo_dspy.data import Data, Split, assign_roles
from gpo_dspy.direction import is_carried_on, kinds_of
from gpo_dspy.plan import (
    COSTLY_CANDIDATES,
    HOLDOUT_BUDGET,
    LARGEST_HOLDOUT,
    Plan,
    auto_metric_calls,
    candidates_per_step,
    holdout_size,
    make_plan,
    steps_at_once,
    trial_failures,
)
from gpo_dspy.program import optimizable_predictors, state_of
from gpo_dspy.program_state import ProgramState
from gpo_dspy.prompt_model import max_tokens_of
from gpo_dspy.secrets import Secrets, lms_within
from gpo_dspy.selector import most_rewritten
from gpo_dspy.settings import Settings
from gpo_dspy.user_functions import blamed_on

if TYPE_CHECKING:
    from gpo_dspy.optimizer import GPO


def secrets_of(optimizer: GPO, student: dspy.Module, prompt_model: dspy.LM) -> Secrets:
    """Return what must be neither written nor shown."""
    urls = [optimizer.storage] if optimizer.storage else []
    held = lms_within(student, optimizer.metric.function, dspy.settings.lm, prompt_model)
    return Secrets.of(*held, urls=urls)


def start_state(student: object) -> ProgramState:
    """Return the state that the student is in.

    Raises:
        ValueError: It is no DSPy module.
        ProgramError: It has nothing to optimise.
    """
    if not isinstance(student, dspy.Module):
        raise ValueError(
            f"student must be a dspy.Module, got {type(student).__name__}; compile takes the "
            "program itself, for example dspy.ChainOfThought('question -> answer')."
        )
    return state_of(student)


def check_inputs(student: dspy.Module, trainset: Sequence[dspy.Example]) -> None:
    """Refuse examples that have no input field of the student, where its signature tells those.

    Raises:
        ValueError: Names the fields.
    """
    plain = (dspy.Predict, dspy.ChainOfThought)
    if type(student) not in plain or not isinstance(trainset, Sequence):
        return  # a program's own `forward` may take what it likes
    if not all(isinstance(e, dspy.Example) and e._input_keys is not None for e in trainset):
        return  # which is refused elsewhere
    ((_, predictor),) = student.named_predictors()
    taken = list(predictor.signature.input_fields)
    given = dict.fromkeys(field for e in trainset for field in e._input_keys)
    if taken and trainset and not set(given) & set(taken):
        raise ValueError(
            f"trainset has the input fields {', '.join(map(repr, given)) or 'none'}, student takes "
            f"{', '.join(map(repr, taken))}: name those in .with_inputs(...)."
        )


def prompt_model_for(optimizer: GPO, student: dspy.Module) -> dspy.LM:
    """Return the LM that writes the rewrites.

    Raises:
        ValueError: The program has no LM to run on.
    """
    configured = dspy.settings.lm
    own = {name: p.lm for name, p in optimizable_predictors(student).items()}
    unequipped = [name for name, lm in own.items() if lm is None]
    if unequipped and configured is None:
        raise ValueError(
            f"No LM is configured for {', '.join(unequipped)}: call "
            "dspy.configure(lm=dspy.LM('provider/model')) first, or student.set_lm(...)."
        )
    return optimizer.prompt_model or configured or next(iter(own.values()))


def data_and_plan(
    optimizer: GPO,
    start: ProgramState,
    trainset: Sequence[dspy.Example],
    valset: Sequence[dspy.Example] | None,
    testset: Sequence[dspy.Example] | None,
    split: Split | None = None,
) -> tuple[Data, Plan]:
    """Give the examples their roles and lay out the run over them.

    Args:
        optimizer: The optimizer.
        start: The state that the student is in.
        trainset: As given to ``compile``.
        valset: Likewise.
        testset: Likewise.
        split: That of the run that is carried on; by default seed and budget decide.

    Raises:
        ValueError: The examples cannot be used, or the budget does not pay for one step.
    """
    settings = optimizer.settings
    calls, auto = optimizer.max_metric_calls, optimizer.auto
    if calls is None and auto is None and optimizer.epochs is None:
        auto = "light" if optimizer.limits == Limits() else "heavy"
    if auto is not None:
        calls = auto_metric_calls(auto, len(start.instructions)) + 2 * len(testset or ())
    if split is None:
        size = LARGEST_HOLDOUT if calls is None else holdout_size(calls)
        split = Split(settings.seed, size)
    size = split.holdout if optimizer.holdout else 0
    data = assign_roles(trainset, valset, testset, holdout=size, seed=split.seed)
    candidates, trial, at_once = _pace(optimizer, calls, start, data)
    max_steps = None
    if optimizer.epochs is not None:
        max_steps = optimizer.epochs * -(-len(data.train) // settings.batch_size)
    if calls is None:  # the epochs alone end the run: enough for every candidate on every example
        searched = len(data.train) + len(data.validation)
        calls = searched * (1 + (max_steps or 1) * candidates)
        calls += 2 * len(data.holdout)
    plan = make_plan(
        data,
        max_metric_calls=calls,
        max_steps=max_steps,
        candidates=candidates,
        evaluation=settings.evaluation,
        trial=trial,
        claim=optimizer.holdout and testset is None,
        steps_at_once=at_once,
    )
    return data, plan


def with_requests(
    plan: Plan, settings: Settings, start: ProgramState, prompt_model: dspy.LM
) -> Plan:
    """Return the plan with the requests to the prompt model that a step takes."""
    prompts = [text for _, text in start.instructions]
    with blamed_on("schedule"):
        words = settings.schedule(1, plan.steps, ())
    together = rewrites_per_request(settings, prompts, words, max_tokens_of(prompt_model))
    return replace(
        plan,
        rewrite_requests=len(request_sizes(plan.candidates, together)),
        direction_requests=len(kinds_of(settings.direction)),
        rewritten=most_rewritten(settings.selector, len(prompts)),
    )


def _pace(
    optimizer: GPO, max_metric_calls: int | None, start: ProgramState, data: Data
) -> tuple[int, int, int]:
    """Return the rewrites of a step, the failures each is tried on, and the steps at once."""
    settings, predictors = optimizer.settings, len(start.instructions)
    if settings.evaluation == "full":  # a candidate costs the whole validation set
        return settings.candidates_per_step or COSTLY_CANDIDATES, 0, settings.steps_at_once or 1
    sizes = []  # the run has the smallest of them
    if max_metric_calls is None or optimizer.limits != Limits() or optimizer.epochs is not None:
        sizes.append(auto_metric_calls("light", predictors))  # nobody knows: a guess
    if max_metric_calls is not None:
        # A large testset takes more than the share that the claim has of a run as a rule.
        searched = (max_metric_calls - 2 * len(data.holdout)) / (1 - HOLDOUT_BUDGET)
        sizes += [max_metric_calls, round(searched)]
    calls = min(sizes)
    alone = settings.rewrites_per_request == 1
    width = COSTLY_CANDIDATES if alone else candidates_per_step(calls, predictors)
    trial = min(trial_failures(calls, predictors), settings.failures)
    at_once = 1 if is_carried_on(settings.direction) else steps_at_once(calls, predictors)
    at_once = settings.steps_at_once or at_once
    return settings.candidates_per_step or width, trial, at_once
