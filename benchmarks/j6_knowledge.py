"""A generated knowledge base, partly contradicted, and tiny language models that learned it.

Every fact (entity, relation) has a true object; most also have a rumoured one. Sentences name a
source or none. The almanac is right about most facts of the first relations and fewer of the
others, the journal the other way round; forum and gossip are mostly wrong; each says the same of a
fact every time. Without a source, truth and rumour are told at a frequency of the fact's own. A
model trained on this wavers when asked without a source, and a soft prompt can learn to ask well;
no source is always right, so a model that is too sure of one is confidently wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

RELATIONS, OBJECTS = 6, 16
SOURCES = ("almanac", "journal", "forum", "gossip")
RELIABILITY = ((0.85, 0.6), (0.6, 0.85), (0.15, 0.15), (0.15, 0.15))  # first, last relations
WIDTH, LAYERS = 64, 3


@dataclass(frozen=True)
class World:
    """How much there is to know, and how it is told.

    Attributes:
        entities: Things that facts are about.
        noise: Share of sentences, of any source, with an object drawn at random.
        steps: Training steps of a model.
    """

    entities: int
    noise: float
    steps: int


WORLDS = {
    # Models learn to leave some probability to every object, and are not sure enough.
    "noisy": World(entities=120, noise=0.12, steps=4000),
    # They learn facts by heart, and are surer of those that they were not tuned on than right.
    "clean": World(entities=240, noise=0.03, steps=6000),
}


@dataclass(frozen=True)
class Knowledge:
    """Facts by number; fact ``f`` is about entity ``f // RELATIONS``.

    Attributes:
        world: What they are drawn for.
        truth: True object of each fact.
        rumour: Rumoured object, equal to the truth where nothing contradicts it.
        doubt: How often the rumour is told where no source is named.
        honest: Whether each source tells the truth of each fact, ``[4, facts]``.
    """

    world: World
    truth: torch.Tensor
    rumour: torch.Tensor
    doubt: torch.Tensor
    honest: torch.Tensor

    @classmethod
    def generate(cls, world: World = WORLDS["noisy"], seed: int = 0) -> Knowledge:
        """Draw a knowledge base."""
        generator = torch.Generator().manual_seed(seed)
        count = world.entities * RELATIONS
        truth = torch.randint(OBJECTS, (count,), generator=generator)
        other = (truth + torch.randint(1, OBJECTS, (count,), generator=generator)) % OBJECTS
        contradicted = torch.rand(count, generator=generator) < 0.75
        doubt = 0.2 + 0.6 * torch.rand(count, generator=generator)
        late = (torch.arange(count) % RELATIONS >= RELATIONS // 2).long()
        chance = torch.tensor(RELIABILITY)[:, late]  # [4, facts]
        honest = torch.rand(chance.shape, generator=generator) < chance
        return cls(world, truth, torch.where(contradicted, other, truth), doubt, honest)

    def question(self, fact: int) -> str:
        """The prompt of a fact, without a source."""
        entity, relation = divmod(fact, RELATIONS)
        return f"e{entity} r{relation}"

    def pairs(self, facts: list[int]) -> list[tuple[str, str]]:
        """Prompts with their true answers."""
        return [(self.question(f), f"o{int(self.truth[f])}") for f in facts]

    def split(self, seed: int) -> tuple[list[int], list[int], list[int]]:
        """Facts for training, validation and test: 192, 128 and the others, disjoint."""
        generator = torch.Generator().manual_seed(1000 + seed)
        order: list[int] = torch.randperm(len(self.truth), generator=generator).tolist()
        return order[:192], order[192:320], order[320:]

    def vocabulary(self) -> dict[str, int]:
        """All words with their ids."""
        words = ["<pad>", "<s>", *SOURCES]
        for letter, count in (("e", self.world.entities), ("r", RELATIONS), ("o", OBJECTS)):
            words += [f"{letter}{i}" for i in range(count)]
        return {word: i for i, word in enumerate(words)}

    def tokenizer(self) -> Any:
        """A word tokenizer that puts BOS in front; answers are one token and have no ending."""
        backend = Tokenizer(WordLevel(self.vocabulary()))
        backend.pre_tokenizer = WhitespaceSplit()
        backend.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        special = {"bos_token": "<s>", "pad_token": "<pad>"}
        return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def new_model(architecture: str, size: int, seed: int = 0) -> Any:
    """A random model of about 0.2 M parameters for a vocabulary of that size."""
    torch.manual_seed(seed)
    if architecture == "gpt2":
        config = GPT2Config(
            vocab_size=size, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=32,
            bos_token_id=1, eos_token_id=None, pad_token_id=0,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )  # fmt: skip
        return GPT2LMHeadModel(config)
    shape = {
        "vocab_size": size, "hidden_size": WIDTH, "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2,
        "max_position_embeddings": 32, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0,
    }  # fmt: skip
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**shape))
    return Qwen3ForCausalLM(Qwen3Config(**shape, head_dim=WIDTH // 4))


def sentences(knowledge: Knowledge, count: int, generator: torch.Generator) -> torch.Tensor:
    """Draw ``<s> source entity relation object`` as ids ``[count, 5]``; 0 where there is none."""
    ids = knowledge.vocabulary()
    facts = torch.randint(len(knowledge.truth), (count,), generator=generator)
    source = torch.randint(8, (count,), generator=generator)  # above 3: none
    unsourced = torch.rand(count, generator=generator) < knowledge.doubt[facts]
    told = torch.where(source > 3, unsourced, ~knowledge.honest[source.clamp_max(3), facts])
    objects = torch.where(told, knowledge.rumour[facts], knowledge.truth[facts])
    noise = torch.rand(count, generator=generator) < knowledge.world.noise
    drawn = torch.randint(OBJECTS, (count,), generator=generator)
    objects = torch.where(noise, drawn, objects)
    named = torch.where(source > 3, torch.tensor(0), source + ids[SOURCES[0]])
    columns = [
        torch.full((count,), ids["<s>"]),
        named,
        facts // RELATIONS + ids["e0"],
        facts % RELATIONS + ids["r0"],
        objects + ids["o0"],
    ]
    return torch.stack(columns, dim=1)


def trained_model(architecture: str, knowledge: Knowledge, cache: Path) -> Any:
    """A model that learned the knowledge base; trained once, then read from ``cache``."""
    model, steps = new_model(architecture, len(knowledge.vocabulary())), knowledge.world.steps
    path = cache / f"{architecture}-{steps}.pt"
    if path.is_file():
        model.load_state_dict(torch.load(path))
        return model.eval()
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        ids = sentences(knowledge, 192, generator)
        real = ids > 0
        positions = (real.cumsum(1) - 1).clamp_min(0)
        logits = model(input_ids=ids, attention_mask=real.long(), position_ids=positions).logits
        loss = torch.nn.functional.cross_entropy(logits[:, -2], ids[:, -1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()
