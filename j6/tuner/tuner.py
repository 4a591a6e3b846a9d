"""What a user calls to tune a soft prompt."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import nn

from j6.examples import EncodedExample, ExampleEncoder
from j6.files import make_folder
from j6.settings import check_type
from j6.soft_prompt import SoftPrompt
from j6.soft_prompt.anatomy import Anatomy, causal_lm
from j6.soft_prompt.suitable import generates_from_embeddings
from j6.tuner.answers import AnswerRunner, frozen
from j6.tuner.config import J6Config
from j6.tuner.prefix import without_prefix
from j6.tuner.progress import Progress
from j6.tuner.result import TuneResult
from j6.tuner.run import TuningRun
from j6.tuner.shared import shared_prefix

logger = logging.getLogger(__name__)


class J6Tuner:
    """Tunes a soft prompt for a frozen causal language model.

    >>> result = J6Tuner(model, tokenizer).fit(train, validation=held_out)  # doctest: +SKIP
    >>> result.soft_prompt.save("prompt")                                  # doctest: +SKIP

    Args:
        model: A Hugging Face causal language model; left as it was found.
        tokenizer: Its tokenizer.
        config: Settings; by default ``J6Config()``.

    Raises:
        TypeError: If the model cannot take a soft prompt.
        ValueError: If the configuration does not fit the model.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, config: J6Config | None = None) -> None:
        if not callable(tokenizer):
            msg = f"tokenizer is {tokenizer!r}; pass the model's, as AutoTokenizer loads it"
            raise TypeError(msg)
        config = config or J6Config()
        check_type("config", config, J6Config, "a J6Config")
        self.model = causal_lm(model)
        self.tokenizer = tokenizer
        self.config = config
        self._anatomy = Anatomy.of(model)
        self._anatomy.resolve_layers(self.config.prompt.layers)

    @torch.inference_mode(mode=False)
    @torch.enable_grad()
    def fit(
        self,
        examples: Iterable[Any],
        *,
        validation: Iterable[Any] | None = None,
        start: SoftPrompt | None = None,
        checkpoints: str | Path | None = None,
        resume: bool = True,
        progress: bool = True,
    ) -> TuneResult:
        """Tune a soft prompt.

        Args:
            examples: Pairs ``(prompt, answer)``, mappings, chats, or a ``datasets.Dataset``
                (:class:`j6.examples.ExampleEncoder`). Losses are on the answers' tokens only.
            validation: Held-out examples of the same forms; without them nothing is measured,
                the run takes all its steps and gives back the last prompt.
            start: A prompt to go on from, left as it is; by default a new one.
            checkpoints: Folder for checkpoints. A run that was killed goes on from the last one
                when the same call is made again, and ends as it would have.
            resume: Whether to go on from a checkpoint that is there.
            progress: Whether to show a progress bar when standard error is a terminal.

        Returns:
            The best prompt and the history.

        Raises:
            OSError: If ``checkpoints`` cannot be written to.
            TypeError: If an example has none of the known forms.
            ValueError: If the prompt leaves no room for examples, an example's answer is empty or
                too long, or a checkpoint is of another run.
        """
        folder = None if checkpoints is None else Path(checkpoints)
        if folder is not None:
            make_folder(folder, "checkpoints")
        if not generates_from_embeddings(self.model):
            name = type(self.model).__name__
            logger.warning("%s.generate takes no inputs_embeds: no text with the prompt", name)
        needed = "a SoftPrompt (SoftPrompt.load reads one)"
        check_type("start", start, (SoftPrompt, type(None)), needed)
        if start is not None:
            soft_prompt = start.copied()
        else:
            soft_prompt = SoftPrompt.for_model(self.model, self.config.prompt, self.tokenizer)
        room = self._anatomy.room_beside(soft_prompt.n_tokens)
        prompt = soft_prompt.config
        encoder = ExampleEncoder(self.tokenizer, prompt.position, room, prompt.bos_id)
        soft_prompt.config = replace(prompt, bos_id=encoder.bos_id)
        train = encoder.encode_all(examples)
        held_out = None
        if validation is not None:
            held_out = encoder.encode_all(validation, "validation example")
        with soft_prompt.attached(self.model), frozen(self.model):
            prefix = shared_prefix(soft_prompt, self.model, [*train, *(held_out or ())])
            runner = AnswerRunner(soft_prompt, self.model, prefix)
            if prefix is not None:
                train, held_out = _cut(train, prefix.length), _cut(held_out, prefix.length)
            run = TuningRun(self.config, runner, train, held_out, folder)
            with Progress(self.config.max_steps, shown=progress) as bar:
                reason = run.to_the_end(resume, bar)
            result = run.result(reason)
        logger.info("%s", result.message)
        return result


@overload
def _cut(examples: list[EncodedExample], length: int) -> list[EncodedExample]: ...
@overload
def _cut(examples: list[EncodedExample] | None, length: int) -> list[EncodedExample] | None: ...
def _cut(examples: list[EncodedExample] | None, length: int) -> list[EncodedExample] | None:
    return None if examples is None else [without_prefix(e, length) for e in examples]
