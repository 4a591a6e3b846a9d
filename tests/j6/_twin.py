"""A slow, obvious J6 in float64: plain loops over numbers, written from the definition."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Block = list[float]


def dot(x: Block, y: Block) -> float:
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def cosine(x: Block, y: Block) -> float:
    norms = math.sqrt(dot(x, x)) * math.sqrt(dot(y, y))
    return dot(x, y) / norms if norms > 0 else 0.0


def softmax(scores: list[float], temperature: float) -> list[float]:
    top = max(scores)
    powers = [math.exp((s - top) / temperature) for s in scores]
    return [p / math.fsum(powers) for p in powers]


def units(jacobian: Tensor) -> list[list[Block]]:
    """``u_pO`` as ``[objective][group]`` lists."""
    blocks: list[list[Block]] = jacobian.double().tolist()
    result = []
    for row in blocks:
        norm = math.sqrt(math.fsum(dot(block, block) for block in row))
        result.append([[x / norm if norm > 0 else 0.0 for x in block] for block in row])
    return result


def j6_two_by_two(jacobian: Tensor, components: str, temperature: float | None) -> Tensor:
    """The recommended definition, F first, for h and w; ``temperature=None`` is hard."""
    (u_hf, u_wf), (u_hc, u_wc) = units(jacobian)
    s1, s3, s4, s5 = dot(u_hf, u_hf), dot(u_wf, u_wf), dot(u_hc, u_hc), dot(u_wc, u_wc)
    if components == "paper":
        s2, s6 = cosine(u_hf, u_wc), cosine(u_hc, u_wf)
    else:
        s2, s6 = cosine(u_hf, u_hc), cosine(u_wf, u_wc)
    scores = [s1, s2, s3, s4, s5, s6]
    if temperature is None:
        a1, a2, a3, a4, a5, a6 = (float(i == scores.index(max(scores))) for i in range(6))
    else:
        a1, a2, a3, a4, a5, a6 = softmax(scores, temperature)
    if components == "paper":
        alpha = {"hF": a1 + a2, "hC": a4 + a6, "wF": a3 + a6, "wC": a5 + a2}
    else:
        alpha = {"hF": a1 + a2, "hC": a4 + a2, "wF": a3 + a6, "wC": a5 + a6}
    d_h = _group(u_hf, u_hc, alpha["hF"], alpha["hC"])
    d_w = _group(u_wf, u_wc, alpha["wF"], alpha["wC"])
    return torch.tensor([d_h, d_w], dtype=torch.float64)


def _group(f: Block, c: Block, alpha_f: float, alpha_c: float) -> Block:
    opposing = min(dot(f, c), 0.0) / (dot(f, f) + 1e-300)
    projected = [y - opposing * x for x, y in zip(f, c, strict=True)]
    return [alpha_f * x + alpha_c * y for x, y in zip(f, projected, strict=True)]
