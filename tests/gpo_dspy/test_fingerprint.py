"""Fingerprints change when the thing changes, and only then; in any process and Python."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import importlib.util
import itertools
import json
import linecache
import os
import pathlib
import re
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dspy
import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpo_dspy.fingerprint import (
    digest,
    example_fingerprint,
    example_json,
    metric_fingerprint,
    program_fingerprint,
    program_fingerprints,
)
from gpo_dspy.program import with_instructions
from tests.gpo_dspy.fakes import CountingMetric, scripted_lm, toy_solver

numbers = itertools.count()


def load(folder: Path, source: str, **others: str) -> types.ModuleType:
    """Import a module from source, and others that it imports as ``@name``."""
    for name, text in others.items():
        unique = f"other_{next(numbers)}"
        source = source.replace(f"@{name}", unique)
        _module(folder / f"{unique}.py", text)
    return _module(folder / f"module_{next(numbers)}.py", source)


def _module(path: Path, source: str) -> types.ModuleType:
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- in any process and Python ----------------------------------------------------------------

GOLDEN = '''\
import dataclasses, enum, functools, math, re
from typing import Any, Literal, Optional
import dspy, numpy, pydantic

STOP = {"the", "a", "of"}
SPACE = re.compile(r"\\s+", re.I)

class Unit(enum.Enum):
    METRE = "m"
    FOOT = 0.3048

@dataclasses.dataclass
class Limits:
    low: float = 0.0
    high: float = 1.0

class Answer(pydantic.BaseModel):
    """What is said."""
    text: str
    unit: Optional[Unit] = None
    tags: dict[str, Any] = {}

@functools.lru_cache
def clean(text):
    """Cleaned."""
    match [w for w in SPACE.split(text) if w not in STOP]:
        case [one]:
            return f"{one!r:>{10}} and {{braces}}" "more"
        case many:
            return " ".join(many)

class Base:
    weight = 0.5
    def score(self, one, two): return self.weight * (clean(one) == clean(two)) + math.sqrt(0)

class Metric(Base):
    def __init__(self, limits): self.limits, self.calls = limits, 0
    def __call__(self, example, prediction, trace=None, *, strict: bool = True):
        self.calls += 1
        return self.score(example.answer, prediction.answer)

class Topics(enum.Flag):
    NUMBERS = 1
    WORDS = 2
    BOTH = 3

class Checklist:
    def __init__(self): self.calls = 0
    def check(self, topic):
        self.calls += 1
        return topic in Topics.BOTH
    def __call__(self, example, prediction, trace=None):
        return all([self.check(topic) for topic in prediction.topics])

def search(query: str, k: int = 3) -> list[str]:
    """Search.

        Indented.
    """
    return [query] * k

class QA(dspy.Signature):
    """Answer."""
    question: str = dspy.InputField()
    hints: list[str] | None = dspy.InputField(desc="some hints")
    kind: Literal["a", "b"] = dspy.OutputField()
    answer: Answer = dspy.OutputField(desc="the answer")

class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.answer = dspy.ChainOfThought(QA, temperature=0.5)
        self.agent = dspy.ReAct("question -> answer", tools=[search])
        self.hops = 2
    def forward(self, question):
        return self.answer(question=clean(question))

example = dspy.Example(
    question="q\\ud800\\0", numbers=[1, 2.5, float("nan"), 10**30, None, True],
    pair=(1, {"b": 1, "a": 2}),
    image=dspy.Image("https://example.com/x.png"), array=numpy.arange(6, dtype="<f4").reshape(2, 3),
    unit=Unit.FOOT, limits=Limits(), answer=Answer(text="x"), some={"x", "y"}, raw=b"raw",
).with_inputs("question", "image")

def all_prints():
    from gpo_dspy.fingerprint import example_fingerprint, metric_fingerprint, program_fingerprints
    lm = dspy.LM("openai/gpt-4o-mini", temperature=0.5, max_tokens=100, api_key="k", cache=False)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        return {
            "example": example_fingerprint(example),
            "metric": metric_fingerprint(Metric(Limits())),
            "checklist": metric_fingerprint(Checklist()),
            **program_fingerprints(Program()),
        }
'''

PRINTS = {
    "example": "7d309765f31adf38ffd5c48394dabd9d",
    "metric": "66cb3dbb1cabe2bf81a43a46dfbe2f56",
    "checklist": "d06a0d30ff241fe715ab5789face2d18",
    "program": "d72fd340d708f6e42bf5a0921091e128",
    "predictors": "b3305c71483a91833b6918ac16838bd2",
    "demos": "e9f9ca4234ab0388ac9129217fb41fa8",
    "lm": "ffd991a5de2251b9fea938e08706a695",
    "tools": "fe71be55577f396353e343779ba0a2e3",
    "adapter": "fa384f0206693273950986f8208c7899",
    "rm": "67ec4cfa5a08ee3f4811073d39c4d443",
}
"""As every Python from 3.10 to 3.13 makes them, with DSPy 3.4. Where a later version
makes others, the runs and evaluations that are stored are not found any more."""


def test_fingerprints_are_what_they_were(tmp_path: Path) -> None:
    assert load(tmp_path, GOLDEN).all_prints() == PRINTS


def test_fingerprints_are_the_same_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "golden.py").write_text(GOLDEN)
    code = "import golden, json; print(json.dumps(golden.all_prints()))"
    paths = [str(tmp_path), *filter(None, sys.path)]
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(paths)}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, check=True
    )
    assert json.loads(said.stdout.splitlines()[-1]) == PRINTS


# --- examples ---------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


@given(json_values, json_values)
def test_examples_have_equal_fingerprints_if_their_fields_are_equal(one: Any, other: Any) -> None:
    def written(value: Any) -> str:
        return json.dumps(value, sort_keys=True)

    alike = written(one) == written(other)
    prints = [example_fingerprint(dspy.Example(x=value).with_inputs("x")) for value in (one, other)]
    assert (prints[0] == prints[1]) == alike
    again = dspy.Example(x=json.loads(json.dumps(one))).with_inputs("x")
    assert example_fingerprint(again) == prints[0]


def test_names_and_input_keys_count_but_not_what_dspy_adds() -> None:
    example = dspy.Example(q="x", a="y").with_inputs("q")
    same = [
        dspy.Example(a="y", q="x").with_inputs("q"),
        dspy.Example(q="x", a="y", dspy_uuid=str(uuid.uuid4()), dspy_split="train").with_inputs(
            "q"
        ),
    ]
    others = [
        dspy.Example(q="x", a="y").with_inputs("q", "a"),
        dspy.Example(q="x", a="y"),
        dspy.Example(q="y", a="x").with_inputs("q"),
        dspy.Example(q="x", b="y").with_inputs("q"),
    ]
    prints = {example_fingerprint(e) for e in [example, *same]}
    assert len(prints) == 1
    assert len({example_fingerprint(e) for e in others} - prints) == len(others)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Size(enum.IntEnum):
    SMALL = 1


class Model(pydantic.BaseModel):
    name: str
    inner: list[Colour] = []


@dataclasses.dataclass
class Point:
    x: float
    label: object = None


class Plain:
    def __init__(self, x: object) -> None:
        self.x = x


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x: object) -> None:
        self.x = x


class Locked(Plain):
    """Cannot be pickled, and its repr has an address."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError


def _cycle(last: object) -> list[object]:
    cycle: list[object] = [1]
    return [*cycle, cycle.append(cycle), cycle, last]


VALUES: list[Callable[[], list[Any]]] = [
    # All the values of a list differ from each other.
    lambda: [1, 1.0, True, "1", None, "None", Size.SMALL, Colour.RED, Colour.BLUE, 10**5000],
    lambda: [[1], (1,), {1}, {1: 1}, {"1": 1}, [[1]], [], (), {}, set(), "[1]"],
    lambda: [float("nan"), float("inf"), -0.0, 0.0, 0, "nan"],
    lambda: [{1, 2, 3}, {1, 2}, {"a", "b"}, {(1, 2)}, {"a": 1, "b": 2}, {"a": 2, "b": 1}],
    lambda: [b"x", b"y", "x", bytearray(b"z")],
    lambda: ["\0", "\ud800", "\ud800\udc00", "\U00010000", ""],
    lambda: [np.arange(4), np.arange(4.0), np.arange(4).reshape(2, 2), np.arange(5), [0, 1, 2, 3]],
    lambda: [np.float64(0.5), np.float32(0.5), np.array(["a", None]), np.array(["a", "b"])],
    lambda: [Model(name="a"), Model(name="b"), Model(name="a", inner=[Colour.RED]), {"name": "a"}],
    lambda: [dspy.Image("http://a/1.png"), dspy.Image("http://a/2.png"), dspy.Code(code="1")],
    lambda: [dspy.History(messages=[{"q": "1"}]), dspy.History(messages=[{"q": "2"}])],
    lambda: [Point(1), Point(2), Point(1, Point(1)), Plain(1), Plain(2), Slotted(1), Slotted(2)],
    lambda: [dspy.Example(x=1), dspy.Example(x=2), dspy.Prediction(y=1), {"x": 1}],
    lambda: [decimal.Decimal("1.0"), decimal.Decimal("1.00"), Path("a"), Path("b"), 1j],
    lambda: [datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1), datetime.timedelta(1)],
    lambda: [re.compile("a" * 300), re.compile("a" * 301), re.compile("a" * 300, re.I)],
    lambda: [pathlib.PurePath("a/b"), range(3), range(4), slice(1, 2), uuid.UUID(int=1)],
    lambda: [_cycle(1), _cycle(2)],
    lambda: [threading.Lock(), Locked(1), object()],
    lambda: [int, str, Point, len, json.dumps, Model],
]  # fmt: skip


@pytest.mark.parametrize("make", VALUES)
def test_values_of_any_kind_count_by_what_they_hold(make: Callable[[], list[Any]]) -> None:
    def prints() -> list[str]:
        return [example_fingerprint(dspy.Example(x=value)) for value in make()]

    assert prints() == prints(), "made again, they are the same"
    assert len(set(prints())) == len(prints()), "all of them differ"


def test_an_example_can_be_read_by_people() -> None:
    example = dspy.Example(
        q="ü\0", n=[1, 2.5], image=dspy.Image("http://a/1.png"), array=np.arange(2), odd=object(),
        model=Model(name="a", inner=[Colour.RED]), day=datetime.date(2024, 1, 1), loop=_cycle(1),
        huge=10**5000, keys={(1, 2): 3}, dspy_uuid="no",
    ).with_inputs("q", "n")  # fmt: skip
    read = json.loads(example_json(example))
    assert read["inputs"] == {"q": "ü\0", "n": [1, 2.5]}
    labels = read["labels"]
    assert labels["array"] == [0, 1]
    assert labels["model"] == {"name": "a", "inner": [1]}
    assert labels["day"] == "2024-01-01"
    assert "http://a/1.png" in labels["image"]
    assert "0x" not in labels["odd"]
    assert set(labels) == {"image", "array", "odd", "model", "day", "loop", "huge", "keys"}


# --- metrics ----------------------------------------------------------------------------------

METRIC = """\
import math
from @helpers import normalize, unused
import @helpers as helpers

LIMIT = 0.5
CALLS = []
UNUSED = 1

def clean(text):
    return text.strip()

def equal(one, two):
    return clean(one) == clean(two)

def metric(example, prediction, trace=None):
    CALLS.append(prediction)
    return equal(example.answer, normalize(prediction.answer)) and helpers.LEAST < LIMIT
"""
HELPERS = """\
LEAST = 0.1

def normalize(text):
    return lower(text)

def lower(text):
    return text.lower()

def unused(text):
    return text
"""


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("", "", False),
        ("import math", "# moved down by a line\nimport math", False),
        ("    CALLS", "    # a comment\n\n    CALLS", False),
        ("    CALLS", '    """A docstring."""\n    CALLS', False),
        ("equal(example.answer, ", "equal(\n        example.answer,\n        ", False),
        ("UNUSED = 1", "UNUSED = 2", False),
        ("CALLS = []", "CALLS = [1, 2]", False),
        ("    return text\n", "    return text * 2\n", False),
        ("LIMIT = 0.5", "LIMIT = 0.6", True),
        ("LIMIT = 0.5", "LIMIT = 1 / 2", False),
        (" < LIMIT", " <= LIMIT", True),
        ("text.strip()", "text.rstrip()", True),
        ("trace=None", "trace=1", True),
        ("text.lower()", "text.upper()", True),
        ("LEAST = 0.1", "LEAST = 0.2", True),
        ("prediction.answer)", "prediction.reply)", True),
    ],
)
def test_a_metric_is_known_by_what_it_does(
    tmp_path: Path, old: str, new: str, changed: bool
) -> None:
    before = load(tmp_path, METRIC, helpers=HELPERS).metric
    edited = (METRIC.replace(old, new, 1), HELPERS.replace(old, new, 1))
    after = load(tmp_path, edited[0], helpers=edited[1]).metric
    assert (metric_fingerprint(after) != metric_fingerprint(before)) == changed


def _threshold(limit: object) -> Callable[..., bool]:
    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(prediction.score > limit)

    return metric


def _counting(start: int) -> Callable[..., bool]:
    count, cache = start, {"start": start}

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        nonlocal count
        count += 1
        cache[example.question] = count
        return True

    return metric


class Judge:
    """Can be called, and counts."""

    strictness = 0.5

    def __init__(self, limit: float) -> None:
        self.limit, self.calls, self.api_key = limit, 0, "old-key"
        self.seen: list[Any] = []

    def __call__(self, example: Any, prediction: Any, trace: Any = None) -> bool:
        self.calls += 1
        return self._judge(prediction)

    def _judge(self, prediction: Any) -> bool:
        self.seen.append(prediction)
        return bool(prediction.score > self.limit * self.strictness)

    def set_limit(self, limit: float) -> None:
        self.limit = limit


class StrictJudge(Judge):
    strictness = 0.9


def test_closures_partials_methods_and_objects_count_by_their_values() -> None:
    def with_limit(example: Any, prediction: Any, trace: Any = None, *, limit: Any = 0.5) -> bool:
        return bool(prediction.score > limit)

    metrics = [
        _threshold(0.5), _threshold(0.6), _threshold([0.5]), _threshold(clean_text),
        functools.partial(with_limit, limit=0.5), functools.partial(with_limit, limit=0.6),
        Judge(0.5), Judge(0.6), StrictJudge(0.5), Judge(0.5)._judge, Judge(0.6)._judge,
        lambda e, p, trace=None: 1.0, lambda e, p, trace=None: 0.0,
    ]  # fmt: skip
    for one, other in itertools.combinations(metrics, 2):
        assert metric_fingerprint(one) != metric_fingerprint(other), (one, other)
    for make in (lambda: _threshold(0.5), lambda: Judge(0.5), lambda: Judge(0.5)._judge):
        assert metric_fingerprint(make()) == metric_fingerprint(make())


def clean_text(text: str) -> str:
    return text.strip()


def test_what_a_metric_changes_itself_does_not_count() -> None:
    assert metric_fingerprint(_counting(0)) == metric_fingerprint(_counting(5))
    judge, counting = Judge(0.5), CountingMetric()
    before = metric_fingerprint(judge), metric_fingerprint(counting)
    judge(None, dspy.Prediction(score=0.5))
    counting(dspy.Example(question="q", answer="a"), dspy.Prediction(answer="a"))
    assert (metric_fingerprint(judge), metric_fingerprint(counting)) == before
    judge.set_limit(0.6)
    assert metric_fingerprint(judge) != before[0], "what a metric is set to does count"


def test_a_key_does_not_count() -> None:
    judge, before = Judge(0.5), metric_fingerprint(Judge(0.5))
    judge.api_key = "new-key"
    assert metric_fingerprint(judge) == before


def test_a_judge_counts_with_its_model_and_its_prompt() -> None:
    def print_of(model: str = "openai/one", prompt: str = "Judge.", key: str = "k") -> str:
        judge = dspy.Predict(dspy.Signature("question, answer -> score: float", prompt))
        judge.lm = dspy.LM(model, api_key=key)
        return metric_fingerprint(lambda e, p, trace=None: judge(question=e.q, answer=p.a).score)

    assert print_of() == print_of() == print_of(key="other")
    assert len({print_of(), print_of(model="openai/two"), print_of(prompt="Judge well.")}) == 3


def test_a_cache_around_a_function_changes_nothing_and_hides_nothing(tmp_path: Path) -> None:
    source = (
        "import functools\n\n@functools.lru_cache\ndef f(x):\n    return x\n\n"
        "def metric(e, p):\n    return f(p)\n"
    )
    before = metric_fingerprint(load(tmp_path, source).metric)
    used = load(tmp_path, source)
    used.metric(None, 1)
    assert metric_fingerprint(used.metric) == before
    changed = load(tmp_path, source.replace("return x", "return not x"))
    assert metric_fingerprint(changed.metric) != before


def _run(source: str, filename: str, *, notebook: bool = False) -> dict[str, Any]:
    """Run code as a notebook runs a cell, or as something that keeps no source."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    if notebook:
        lines = source.splitlines(keepends=True)
        linecache.cache[filename] = (len(source), None, lines, filename)
    exec(compile(source, filename, "exec"), namespace)  # noqa: S102
    return namespace


CELL = """\
LIMIT = {limit}
SEEN = []
class Metric:
    def __call__(self, example, prediction, trace=None):
        SEEN.append(prediction){comment}
        return prediction.score > LIMIT {operator} 2
def metric(example, prediction, trace=None):
    SEEN.append(prediction){comment}
    return prediction.score > LIMIT {operator} 2
function = lambda example, prediction: prediction.score > LIMIT {operator} 2
"""


@pytest.mark.parametrize("notebook", [True, False])
@pytest.mark.parametrize("name", ["metric", "function", "Metric"])
def test_metrics_of_a_notebook_or_a_prompt_work(name: str, notebook: bool) -> None:
    def print_of(limit: float, operator: str, seen: int = 0, comment: str = "") -> str:
        text = CELL.format(limit=limit, operator=operator, comment=comment)
        file = f"<ipython-input-{next(numbers)}-abc>" if notebook else "<stdin>"
        namespace = _run(text, file, notebook=notebook)
        namespace["SEEN"].extend(range(seen))
        metric = namespace[name]
        return metric_fingerprint(metric() if isinstance(metric, type) else metric)

    assert print_of(1, "+") == print_of(1, "+", seen=3) == print_of(1, "+", comment="  # seen")
    assert len({print_of(1, "+"), print_of(2, "+"), print_of(1, "-")}) == 3


class Raising:
    """Stands for something that is not there yet, as the proxies of web frameworks do."""

    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("nothing is there yet")


class Endless:
    """Answers every attribute by another of its kind."""

    def __getattr__(self, name: str) -> Endless:
        return Endless()

    def __call__(self) -> None: ...


def test_odd_objects_that_a_metric_uses_do_no_harm() -> None:
    raising, endless = Raising(), Endless()

    def metric(example: Any, prediction: Any, trace: Any = None) -> bool:
        return bool(raising == endless)

    assert metric_fingerprint(metric) == metric_fingerprint(metric)
    assert metric_fingerprint(endless) == metric_fingerprint(Endless())


def test_metrics_of_libraries_are_known_by_name() -> None:
    one, other = dspy.evaluate.answer_exact_match, dspy.evaluate.answer_passage_match
    assert metric_fingerprint(one) == metric_fingerprint(one) != metric_fingerprint(other)
    assert metric_fingerprint(dspy.evaluate.SemanticF1()) != metric_fingerprint(
        dspy.evaluate.SemanticF1(threshold=0.5)
    )


def test_a_function_far_too_deep_to_walk_still_has_a_fingerprint(tmp_path: Path) -> None:
    def metric(last: int) -> Callable[..., Any]:
        cases = "".join(f"    elif p == {i}:\n        return {i}\n" for i in range(400))
        source = (
            f"def metric(e, p):\n    if p is None:\n        return 0\n{cases}    return {last}\n"
        )
        return load(tmp_path, source).metric  # type: ignore[no-any-return]

    assert metric_fingerprint(metric(1)) == metric_fingerprint(metric(1))
    assert metric_fingerprint(metric(1)) != metric_fingerprint(metric(2))


# --- programs ---------------------------------------------------------------------------------

PROGRAM = '''\
import dspy

def look_up(word: str) -> str:
    """Look a word up."""
    return word

def tidy(text):
    return text.strip()

class QA(dspy.Signature):
    """Answer the question."""
    question: str = dspy.InputField(desc="a question")
    answer: str = dspy.OutputField()

class Program(dspy.Module):
    def __init__(self):
        super().__init__()
        self.think = dspy.ChainOfThought(QA)
        self.agent = dspy.ReAct("question -> answer", tools=[look_up], max_iters=3)
        self.frozen = dspy.ChainOfThought(dspy.Signature("question -> answer", "Be frozen."))
        self.frozen._compiled = True
        self.hops = 2
        self.runs = 0

    def forward(self, question):
        self.runs += 1  # a counter
        return self.think(question=tidy(question))
'''


def _prints(program: dspy.Module, **settings: Any) -> dict[str, str]:
    lm = dspy.LM("openai/gpt-4o", temperature=0.5, api_key="a-key", api_base="http://one")
    with dspy.context(**{"lm": lm, "adapter": None} | settings):
        return program_fingerprints(program)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("", "", set()),
        ("# a counter", "# the runs", set()),
        ('"""Answer the question."""', '"""Answer the question well."""', set()),
        ("self.runs = 0", "self.runs = 0\n        self.runs = 3", {"program"}),
        ("self.hops = 2", "self.hops = 3", {"program"}),
        ("text.strip()", "text", {"program"}),
        ("max_iters=3", "max_iters=4", {"program"}),
        ("ChainOfThought(QA)", "Predict(QA)", {"program", "predictors", "lm", "demos"}),
        ('desc="a question"', 'desc="one question"', {"predictors"}),
        ("    question: str", "    question: list[str]", {"predictors"}),
        ("ChainOfThought(QA)", "ChainOfThought(QA, temperature=1.0)", {"program", "predictors"}),
        ("    return word", "    return word * 2", {"tools"}),
        ("Look a word up", "Look up a word", {"tools"}),
    ],
)
def test_the_part_that_changed_is_told(tmp_path: Path, old: str, new: str, parts: set[str]) -> None:
    before = _prints(load(tmp_path, PROGRAM).Program())
    after = _prints(load(tmp_path, PROGRAM.replace(old, new, 1)).Program())
    assert {name for name in before if before[name] != after[name]} >= parts
    assert {name for name in before if before[name] != after[name]} <= parts | {"program"}
    assert parts or before == after


def test_instructions_do_not_count_but_for_those_that_stay(tmp_path: Path) -> None:
    program = load(tmp_path, PROGRAM).Program()
    before = _prints(program)
    other = with_instructions(program, (("think.predict", "Do better."), ("agent.react", "Act.")))
    assert _prints(other) == before
    frozen = program.frozen.predict
    frozen.signature = frozen.signature.with_instructions("Be cold.")
    assert _prints(program) != before


def test_a_program_is_the_same_after_a_copy_a_call_and_a_file(tmp_path: Path) -> None:
    module = load(tmp_path, PROGRAM)
    program = module.Program()
    before = _prints(program)
    with dspy.context(lm=scripted_lm(toy_solver)):
        program(question="item 1 alpha")
    assert _prints(program) == before
    assert _prints(copy.deepcopy(program)) == _prints(program.deepcopy()) == before
    program.save(tmp_path / "program.json")
    loaded = module.Program()
    loaded.load(tmp_path / "program.json")
    assert _prints(loaded) == before


def test_demos_lms_and_adapters_are_parts_of_their_own(tmp_path: Path) -> None:
    def changes(program: dspy.Module, **settings: Any) -> set[str]:
        after = _prints(program, **settings)
        return {name for name in before if before[name] != after[name]}

    program = load(tmp_path, PROGRAM).Program()
    before = _prints(program)
    model = "openai/gpt-4o"
    same = dspy.LM(
        model, temperature=0.5, api_key="other", api_base="http://user:pw@two", cache=False,
        num_retries=9, headers={"x": "y"}, top_p=None,
    )  # fmt: skip
    assert changes(program, lm=same) == set()
    assert changes(program, lm=dspy.LM(model, temperature=0.6)) == {"lm"}
    assert changes(program, lm=dspy.LM(model, temperature=0.5, max_tokens=9)) == {"lm"}
    assert changes(program, lm=dspy.LM("openai/gpt-4o-mini", temperature=0.5)) == {"lm"}
    assert changes(program, adapter=dspy.ChatAdapter()) == set(), "DSPy's default"
    assert changes(program, adapter=dspy.JSONAdapter()) == {"adapter"}
    assert changes(program, adapter=dspy.ChatAdapter(use_native_function_calling=True)) == {
        "adapter"
    }
    program.think.predict.lm = dspy.LM("openai/own")
    assert changes(program) == {"lm"}
    program.think.predict.lm = None
    program.think.predict.demos = [dspy.Example(question="q", answer="a")]
    assert changes(program) == {"demos"}


def test_an_unused_default_lm_does_not_count() -> None:
    program = dspy.Predict("question -> answer")
    program.lm = dspy.LM("openai/own")
    assert _prints(program) == _prints(program, lm=dspy.LM("openai/other"))


def test_a_field_type_counts_with_its_fields(tmp_path: Path) -> None:
    source = (
        "import dspy, pydantic\nclass Answer(pydantic.BaseModel):\n    text: str\n"
        "class QA(dspy.Signature):\n    question: str = dspy.InputField()\n"
        "    answers: list[Answer] = dspy.OutputField()\n"
    )
    before = _prints(dspy.Predict(load(tmp_path, source).QA))
    after = _prints(dspy.Predict(load(tmp_path, source.replace("text: str", "text: int")).QA))
    assert {name for name in before if before[name] != after[name]} == {"predictors"}


def test_every_module_of_dspy_has_a_fingerprint_that_lasts() -> None:
    def make() -> list[dspy.Module]:
        inner = dspy.Predict("question -> answer")
        return [
            inner,
            dspy.ChainOfThought("question -> answer"),
            dspy.ReAct("question -> answer", tools=[clean_text]),
            dspy.BestOfN(inner, N=2, reward_fn=_reward, threshold=0.5),
            dspy.Refine(inner, N=2, reward_fn=_reward, threshold=0.5),
            dspy.RLM("context -> answer"),
        ]

    once, again = (list(map(program_fingerprint, make())) for _ in range(2))
    assert once == again
    assert len(set(once)) == len(once)


def _reward(args: Any, prediction: Any) -> float:
    return 1.0


def test_the_whole_follows_from_the_parts(tmp_path: Path) -> None:
    program = load(tmp_path, PROGRAM).Program()
    before = program_fingerprint(program)
    assert program_fingerprint(program) == before
    program.hops = 5
    assert program_fingerprint(program) != before


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(max_size=3), max_size=4))
def test_digests_tell_lists_of_texts_apart(one: list[str], other: list[str]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)
    assert re.fullmatch("[0-9a-f]{32}", digest(*one))


class _Counting:
    def __init__(self) -> None:
        self.calls: list[object] = []

    def __call__(self, example: object, prediction: object, trace: object = None) -> bool:
        self.calls.append(example)
        return True


class _CountingParts(_Counting):
    """Its calls are in functions of their own: of a generator, a lambda, and before 3.12 a list."""

    def __init__(self) -> None:
        super().__init__()
        self.parts, self.seen, self.heard = 0, set[int](), 0

    def _count(self, part: int) -> int:
        self.parts += 1
        return part

    def _see(self, part: int) -> bool:
        self.seen.add(part)
        return True

    def _hear(self, part: int) -> int:
        self.heard += part
        return part

    def __call__(self, example: object, prediction: object, trace: object = None) -> bool:
        parts = sorted([self._count(part) for part in (2, 1)], key=lambda part: self._hear(part))
        return all(self._see(part) for part in parts)


class _CountingToo(_Counting):
    def __call__(self, example: object, prediction: object, trace: object = None) -> bool:
        return super().__call__(example, prediction)


def test_what_an_overridden_method_changes_does_not_count() -> None:
    metric = _CountingToo()
    before = metric_fingerprint(metric)
    metric(1, 2)
    assert metric_fingerprint(metric) == before


def test_what_a_method_called_for_each_part_changes_does_not_count() -> None:
    metric = _CountingParts()
    before = metric_fingerprint(metric)
    metric(1, 2)
    assert (metric.parts, metric.seen, metric.heard) == (2, {1, 2}, 3)
    assert metric_fingerprint(metric) == before
