"""What the subcommands of ``j6`` do."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from j6.examples import ExampleEncoder, ExampleLines, in_batches
from j6.files import make_folder, read_json, write_json
from j6.report.page import report_html
from j6.report.text import metrics_table, report_text
from j6.settings import whole
from j6.soft_prompt import SoftPrompt, SoftPromptConfig
from j6.soft_prompt.anatomy import Anatomy
from j6.tuner import History, J6Config, J6Tuner
from j6.tuner.answers import AnswerRunner, frozen
from j6.update import J6Update

HISTORY = "history.json"


class RunFailedError(Exception):
    """A run was broken off; the message says why, and what is left of it."""


def tune(arguments: argparse.Namespace) -> str:
    """Tune a soft prompt and write it with its history.

    Args:
        arguments: Those of ``j6 tune``.

    Returns:
        What to tell the user.

    Raises:
        RunFailedError: If the run was broken off; what it had reached by then is written.
    """
    train = read_examples(arguments.train)
    validation = None if arguments.val is None else read_examples(arguments.val)
    config = J6Config(
        update=J6Update(
            policy=arguments.policy,
            components=arguments.components,
            temperature=arguments.temperature,
            preference=arguments.preference,
        ),
        prompt=SoftPromptConfig(
            n_tokens=arguments.tokens,
            layers=None if arguments.layers is None else tuple(arguments.layers),
            position=arguments.position,
            init="vocabulary" if arguments.text is None else "text",
            text=arguments.text,
            seed=arguments.seed,
        ),
        learning_rate=arguments.learning_rate,
        max_steps=arguments.steps,
        batch_size=arguments.batch_size,
        refresh_every=arguments.refresh_every,
        seed=arguments.seed,
    )
    out = Path(arguments.out)
    make_folder(out, "--out")  # before the model is loaded, which may take long
    model, tokenizer = load_model(arguments)
    result = J6Tuner(model, tokenizer, config).fit(
        train,
        validation=validation,
        checkpoints=out / "checkpoints",
        resume=not arguments.restart,
    )
    if result.stop_reason.went_wrong and result.best_step == 0:
        msg = f"{result.message}; no better prompt was found, and nothing is written"
        raise RunFailedError(msg)
    result.soft_prompt.save(out)
    write_json(out / HISTORY, result.history.to_json())
    told = f"{result}\nwritten to {out}"
    if result.stop_reason.went_wrong:
        raise RunFailedError(told)
    return told


def evaluate(arguments: argparse.Namespace) -> str:
    """Measure a model with and without a soft prompt.

    Args:
        arguments: Those of ``j6 eval``.

    Returns:
        The metrics as a table, or as JSON.
    """
    whole("--batch-size", arguments.batch_size, 1)
    examples = read_examples(arguments.data)
    soft_prompt = SoftPrompt.load(arguments.prompt)
    model, tokenizer = load_model(arguments)
    room = Anatomy.of(model).room_beside(soft_prompt.n_tokens)
    prompt = soft_prompt.config
    encoder = ExampleEncoder(tokenizer, prompt.position, room, prompt.bos_id)
    encoded = encoder.encode_all(examples)
    with soft_prompt.attached(model), frozen(model):
        runner = AnswerRunner(soft_prompt, model)
        device = soft_prompt.w.device
        before, after = (
            runner.measure(in_batches(encoded, arguments.batch_size, device), tuned=tuned)
            for tuned in (False, True)
        )
    if arguments.json:
        return json.dumps({"untuned": before.to_json(), "tuned": after.to_json()}, indent=2)
    return "\n".join(metrics_table({"untuned": before, "tuned": after}))


def explain(arguments: argparse.Namespace) -> str:
    """Report which part of a soft prompt serves which objective.

    Args:
        arguments: Those of ``j6 explain``.

    Returns:
        The report as text.

    Raises:
        FileNotFoundError: If the folder holds no history.
        ValueError: If the history is broken.
    """
    path = Path(arguments.folder) / HISTORY
    if not path.is_file():
        msg = f"{arguments.folder} has no {HISTORY}: pass a folder that 'j6 tune --out' wrote"
        raise FileNotFoundError(msg)
    value = read_json(path)
    try:
        history = History.from_json(value)
        text = report_text(history)
        page = None if arguments.html is None else report_html(history)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        msg = f"{path} is no history of a run ({error!r}): pass a folder that 'j6 tune' wrote"
        raise ValueError(msg) from error
    if page is not None:
        Path(arguments.html).write_text(page, encoding="utf-8")
    return text


def read_examples(path: str) -> ExampleLines:
    """Read examples from JSON lines.

    Args:
        path: A file with one example per line: an object with ``prompt`` and ``answer``, one with
            ``messages``, or a list ``[prompt, answer]``.

    Returns:
        The examples.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If the file is not in UTF-8, a line is no JSON, or there is no example.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")  # some editors put a mark first
    except UnicodeDecodeError as error:
        msg = f"{path} is not in UTF-8 ({error}): save it in UTF-8"
        raise ValueError(msg) from error
    lines = []
    # Not splitlines(), which cuts at separators that may stand inside a JSON string.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            lines.append((number, json.loads(line)))
        except json.JSONDecodeError as error:
            msg = f"{path}, line {number}: no JSON ({error}); one example per line is needed"
            raise ValueError(msg) from error
    if not lines:
        msg = f"{path} holds no examples: one JSON object per line is needed"
        raise ValueError(msg)
    return ExampleLines(path, lines)


def load_model(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Load a model and its tokenizer from a folder or the Hugging Face cache.

    Args:
        arguments: With ``model``, ``dtype``, ``bits`` and ``device``.

    Returns:
        Model and tokenizer.

    Raises:
        FileNotFoundError: If no folder is there, nor a model of that name to be had.
        TypeError: If the model is an encoder-decoder.
        ValueError: If there is no such device.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    name = arguments.model
    if name.startswith(("/", ".", "~")) and not Path(name).is_dir():
        msg = f"there is no folder {name}: pass a model's folder, or its name on Hugging Face"
        raise FileNotFoundError(msg)
    try:
        config: Any = AutoConfig.from_pretrained(name)
    except OSError as error:
        if Path(name).is_dir():
            raise
        reason = " ".join(str(error).split())  # it has several lines, and may not name the model
        msg = f"{name} is no folder here, and could not be fetched: {reason}"
        raise FileNotFoundError(msg) from error
    if config.is_encoder_decoder:
        msg = f"{name} is an encoder-decoder; a soft prompt needs a decoder-only causal LM"
        raise TypeError(msg)
    options: dict[str, Any] = {"dtype": arguments.dtype}
    device = arguments.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if arguments.bits is not None:
        bits: dict[str, Any] = {f"load_in_{arguments.bits}bit": True}
        options["quantization_config"] = BitsAndBytesConfig(**bits)  # type: ignore[no-untyped-call]
    if device == "auto":
        options["device_map"] = "auto"
    elif arguments.bits is not None or getattr(config, "quantization_config", None) is not None:
        options["device_map"] = {"": device}
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(name, **options)
        if "device_map" not in options:  # quantised or spread models cannot be moved
            model = model.to(device)
    except (AssertionError, RuntimeError) as error:  # torch has no type of its own for it
        msg = f"the model cannot be put on device {device!r}: {str(error).splitlines()[0]}"
        raise ValueError(msg) from error
    return model.eval(), AutoTokenizer.from_pretrained(name)
