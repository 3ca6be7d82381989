"""Studies: claims about language models that can be run again, `signet study NAME`.

Each is a file with a claim, a run by seeds, a number with an interval and a verdict. `study` says what a study is,
`fit` and `sequences` have what several train on, `page` and `plot` show what came of it. Importing this package does
not import torch.
"""

from __future__ import annotations

STUDIES: dict[str, str] = {
    "heads": "attention heads on sequence tasks, at equal width",
    "norms": "LayerNorm beside RMSNorm",
    "residuals": "residual connections, on and off, by depth",
    "positions": "position encodings, on texts longer than those learned",
    "cache": "the KV cache, in time and in bytes",
    "scaling": "a power law of small runs, and a larger one held back",
    "clipping": "gradient clipping where the learning rate is high",
    "accumulation": "micro-batches in place of a whole batch",
    "lora-rank": "the rank of what fine-tuning changed",
    "lora-adapters": "LoRA beside bottleneck adapters at equal parameters",
    "experts": "a mixture of experts beside a dense model at equal active weights",
    "pruning": "weights taken out by size, and by Wanda",
    "precision": "training in fp32, bf16 and fp16",
}
"""Every study with its subject. NAME is in the module of that name, hyphens as underscores: its `STUDY`."""
