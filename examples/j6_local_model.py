"""Tune a soft prompt of a small local model, from scratch, in about a minute on one core.

A tiny Llama learns facts from sentences that contradict one another: where a source is named, the
almanac tells the truth and the forum the rumour; where none is named, it is one or the other. Asked
without a source, the model wavers. A soft prompt of four tokens, tuned on some facts with J6, makes
it right and sure about facts it was not tuned on.

    python examples/j6_local_model.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from j6 import J6Config, J6Tuner, SoftPrompt, SoftPromptConfig
from j6.report.text import report_text

CITIES, FOODS = 240, 12
WORDS = ["<pad>", "<s>", "almanac", "forum", *(f"city{i}" for i in range(CITIES))]
WORDS += [f"food{i}" for i in range(FOODS)]
ID = {word: i for i, word in enumerate(WORDS)}


def make_tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel(ID))
    words.pre_tokenizer = WhitespaceSplit()
    words.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"bos_token": "<s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


def train_model(truth: torch.Tensor, rumour: torch.Tensor, steps: int = 1200) -> LlamaForCausalLM:
    """Teach a new model sentences of the form ``<s> [source] city food``."""
    shape = {"hidden_size": 48, "intermediate_size": 128, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "max_position_embeddings": 32}
    special = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(WORDS), **shape, **heads, **special))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(1, steps + 1):
        city = torch.randint(CITIES, (128,))
        source = torch.randint(4, (128,))  # 0 almanac, 1 forum, else none
        wavering = torch.where(torch.rand(128) < 0.5, truth[city], rumour[city])
        food = torch.where(
            source == 0, truth[city], torch.where(source == 1, rumour[city], wavering)
        )
        named = torch.where(source < 2, source + ID["almanac"], 0)
        columns = [torch.full((128,), 1), named, city + ID["city0"], food + ID["food0"]]
        ids = torch.stack(columns, dim=1)  # [128, 4]
        logits = model(input_ids=ids, attention_mask=(ids > 0).long()).logits
        loss = torch.nn.functional.cross_entropy(logits[:, -2], ids[:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        decay.step()
        if step % (steps // 4) == 0:
            say(f"  step {step} of {steps}, loss {loss.item():.2f}")
    return model.eval()


def say(text: str) -> None:
    """Print at once, also into a pipe, so that it is seen how far the script is."""
    print(text, flush=True)


def main() -> None:
    torch.manual_seed(0)
    truth = torch.randint(FOODS, (CITIES,))
    rumour = (truth + torch.randint(1, FOODS, (CITIES,))) % FOODS
    say("training a small model from scratch ...")
    start = time.perf_counter()
    model, tokenizer = train_model(truth, rumour), make_tokenizer()
    taken = time.perf_counter() - start
    say(f"trained a model of {model.num_parameters():,} parameters in {taken:.0f} s\n")

    facts = [(f"city{i}", f"food{int(truth[i])}") for i in torch.randperm(CITIES).tolist()]
    config = J6Config(prompt=SoftPromptConfig(n_tokens=4), max_steps=150)
    say(f"tuning a soft prompt of 4 tokens on 100 facts, at most {config.max_steps} steps ...")
    start = time.perf_counter()
    result = J6Tuner(model, tokenizer, config).fit(facts[:100], validation=facts[100:170])
    say(f"tuned in {time.perf_counter() - start:.0f} s: {result.message}\n")
    say(f"{report_text(result.history)}\n")

    with tempfile.TemporaryDirectory() as folder:
        result.soft_prompt.save(folder)
        soft_prompt = SoftPrompt.load(folder)
        files = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
        say(f"saved {files} in {folder} and loaded them again; the folder was a temporary one\n")

    questions = tokenizer([question for question, _ in facts[170:]], return_tensors="pt")
    answers = [answer for _, answer in facts[170:]]
    ids, mask = questions["input_ids"], questions["attention_mask"]
    options = {"max_new_tokens": 1, "do_sample": False}
    plain = model.generate(input_ids=ids, attention_mask=mask, **options)[:, -1]
    with soft_prompt.attached(model):
        tuned = soft_prompt.generate(ids, mask, **options)[:, -1]
    for name, tokens in (("without", plain), ("with", tuned)):
        said = tokenizer.convert_ids_to_tokens(tokens.tolist())
        right = sum(a == b for a, b in zip(said, answers, strict=True))
        say(f"{name} the prompt: {right} of {len(answers)} unseen questions answered right")


if __name__ == "__main__":
    # Threads gain nothing on so small a model, and beside another job wait long for one another.
    torch.set_num_threads(1)
    main()
