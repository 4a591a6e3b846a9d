"""J6: tune a soft prompt for several objectives, and see which part of it serves which.

Two objectives, factuality F and confidence C, are minimised over two groups of parameters, soft
tokens w and hidden-layer insertions h of a frozen language model. At every step the Jacobian of
(F, C) with respect to (h, w) is split into six components that say which group drives which
objective and where the objectives conflict; the components, weighed against one another, give the
step. From https://arxiv.org/abs/2508.12086.

>>> import torch
>>> from j6 import J6Update, decompose
>>> jacobian = torch.tensor([[[1.0, 0.0], [0.0, 0.5]],    # ∂F/∂h, ∂F/∂w
...                          [[0.0, 1.0], [0.0, -1.0]]])  # ∂C/∂h, ∂C/∂w
>>> decompose(jacobian).conflict                          # the objectives fight within w
tensor([0., 1.])
>>> J6Update()(jacobian).shape                            # the values for h.grad and w.grad
torch.Size([2, 2])
"""

try:
    import torch as _torch  # noqa: F401 (only to say early what is missing)
except ImportError as error:
    msg = 'j6 needs PyTorch, which is not installed: pip install "gpo-dspy[j6]"'
    raise ImportError(msg) from error

from j6.blocks import BlockGeometry, block_geometry
from j6.components import COMPONENT_NAMES, J6Components, SixScores, decompose
from j6.metrics import Metrics
from j6.objectives import Objective, answer_length
from j6.soft_prompt import (
    PromptedInputs,
    SoftPrompt,
    SoftPromptConfig,
    export_peft,
    import_peft,
    system_length,
)
from j6.tuner import J6Config, J6Tuner, StopReason, TuneResult
from j6.update import J6Step, J6Update

__all__ = [
    "COMPONENT_NAMES",
    "BlockGeometry",
    "J6Components",
    "J6Config",
    "J6Step",
    "J6Tuner",
    "J6Update",
    "Metrics",
    "Objective",
    "PromptedInputs",
    "SixScores",
    "SoftPrompt",
    "SoftPromptConfig",
    "StopReason",
    "TuneResult",
    "answer_length",
    "block_geometry",
    "decompose",
    "export_peft",
    "import_peft",
    "system_length",
]
