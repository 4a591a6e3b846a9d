"""No network and no caches: LiteLLM's price list is the bundled one, DSPy asks the models anew."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
