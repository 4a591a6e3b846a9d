"""Runs in an executor of the user's, and with a limit on the time of one example."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dspy
import pytest
from fakes import (
    CountingMetric,
    Gauge,
    Prompted,
    rewriter_lm,
    scripted_lm,
    story,
    toy_examples,
    toy_gpo,
    toy_metric,
    toy_rewriter,
    toy_solver,
)

from gpo_dspy import GPOResult
from gpo_dspy.errors import ProgramError

TRAIN, VAL = toy_examples(24), toy_examples(24, start=100)


def _compile(lm: dspy.LM, metric: Any = toy_metric, **arguments: Any) -> GPOResult:
    student = dspy.Predict("question -> answer")
    student.set_lm(lm)
    compiled = toy_gpo(metric, **arguments).compile(student, trainset=TRAIN, valset=VAL)
    result: GPOResult = compiled.detailed_results
    return result


# --- an executor ---------------------------------------------------------------------------------


def test_an_executor_changes_nothing_but_the_threads() -> None:
    rng = random.Random(0)

    def slow(prompted: Prompted) -> Any:
        time.sleep(rng.random() / 300)
        return toy_solver(prompted)

    names: set[str] = set()

    def metric(example: dspy.Example, prediction: dspy.Prediction, trace: object = None) -> bool:
        names.add(threading.current_thread().name.split("_")[0])
        return toy_metric(example, prediction)

    alone = _compile(scripted_lm(toy_solver), max_metric_calls=200)
    with ThreadPoolExecutor(6, "mine") as pool:
        options = {"max_metric_calls": 200, "executor": pool, "num_threads": None}
        first, second = (_compile(scripted_lm(slow), metric, **options) for _ in range(2))
        assert pool.submit(int, "7").result(10) == 7, "it was not shut down"
    assert names == {"mine"}
    assert story(alone) == story(first) == story(second)


@pytest.mark.parametrize(("num_threads", "workers", "most"), [(None, 5, 5), (2, 5, 2), (9, 3, 3)])
def test_how_many_calls_are_under_way_in_an_executor(
    num_threads: int | None, workers: int, most: int
) -> None:
    gauge = Gauge()

    def reply(prompted: Prompted) -> Any:
        with gauge:
            time.sleep(0.003)
        return toy_solver(prompted)

    with ThreadPoolExecutor(workers) as pool:
        _compile(scripted_lm(reply), executor=pool, num_threads=num_threads, max_metric_calls=80)
    assert gauge.most == most


def test_limits_hold_in_an_executor() -> None:
    with ThreadPoolExecutor(4) as pool:
        result = _compile(
            scripted_lm(toy_solver), executor=pool, max_tokens=20_000, max_metric_calls=400
        )
    used = result.task_usage + result.prompt_usage
    tokens = used.input_tokens + used.output_tokens
    assert result.stop_reason.name == "TOKENS"
    assert 14_000 < tokens <= 20_000 + 4 * 110


@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C reaches a subprocess otherwise on Windows")
@pytest.mark.parametrize("pool", ["None", "ThreadPoolExecutor(8)"])
@pytest.mark.parametrize("timeout", ["None", "60"])
def test_ctrl_c_ends_a_run_within_a_second(pool: str, timeout: str) -> None:
    program = f"""
        import os, signal, time
        from concurrent.futures import ThreadPoolExecutor
        import dspy
        from fakes import rewriter_lm, scripted_lm, toy_examples, toy_gpo

        signal.signal(signal.SIGINT, signal.default_int_handler)  # however this was started
        asked = 0

        def slow(prompted):
            global asked
            asked += 1
            if asked > 1:  # the very first call is made alone
                if asked == 9:
                    print("under way", flush=True)
                time.sleep(20)
            return {{"answer": "wrong"}}

        student = dspy.Predict("question -> answer")
        student.set_lm(scripted_lm(slow))
        optimizer = toy_gpo(num_threads=8, executor={pool}, example_timeout={timeout})
        result = optimizer.compile(student, trainset=toy_examples(40)).detailed_results
        print(result.stop_reason.name, result.metric_calls, flush=True)
        os._exit(0)  # the threads of a ThreadPoolExecutor are no daemons
    """
    here = str(Path(__file__).parent)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=here,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([here, *sys.path])},
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "under way\n"
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        rest, _ = process.communicate(timeout=30)
    assert rest == "INTERRUPTED 1\n"
    took = time.monotonic() - began
    assert took < 2, "a second, and one for a busy machine"


# --- a limit on the time of one example ----------------------------------------------------------


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    """What hangs, hangs until the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("threads", [1, 4])
def test_examples_that_hang_are_counted_and_never_run_again(
    hang: threading.Event, threads: int
) -> None:
    def reply(prompted: Prompted) -> Any:
        if prompted.fields["question"] in {TRAIN[3].question, VAL[5].question}:
            hang.wait(60)
        return toy_solver(prompted)

    metric, lm = CountingMetric(), scripted_lm(reply)
    result = _compile(lm, metric, num_threads=threads, example_timeout=0.15, max_metric_calls=160)
    assert set(result.outcomes) == {"SCORED", "TIMED_OUT"}
    assert 0 < result.outcomes["TIMED_OUT"] <= 40
    assert f"{result.outcomes['TIMED_OUT']} took longer than example_timeout" in str(result)
    assert result.best_score > result.start_score, "the others go on"
    asked = [(p.instruction, p.fields["question"]) for p in lm.engine.prompts]
    assert len(asked) == len(set(asked)) == result.metric_calls


def test_the_prompt_model_is_told_of_the_time(hang: threading.Event) -> None:
    def reply(prompted: Prompted) -> Any:
        if prompted.fields["question"].endswith("alpha"):
            hang.wait(60)
        return toy_solver(prompted)

    prompt_model = rewriter_lm(toy_rewriter)
    _compile(
        scripted_lm(reply),
        prompt_model=prompt_model,
        num_threads=8,
        example_timeout=0.1,
        max_metric_calls=80,
    )
    shown = "".join(p.fields.get("failures", "") for p in prompt_model.engine.prompts)
    assert "Feedback: No answer within 0.1 seconds." in shown


def test_a_program_that_is_always_too_slow_ends_the_run_early(hang: threading.Event) -> None:
    lm = scripted_lm(lambda _: hang.wait(60))
    with pytest.raises(ProgramError, match=r"No answer within 0\.3 seconds"):
        _compile(lm, num_threads=12, example_timeout=0.3)
    assert len(lm.engine.prompts) == 12
