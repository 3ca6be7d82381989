"""Turn the embedded model's GGUF file into a folder that vLLM, peft and llmcompressor read.

    python -m serving.engine.convert_gguf MODEL.gguf FOLDER

A program of its own, so that torch is loaded here and never in the command line's process.
It writes one line of progress per step to standard output: `DONE/ALL what is being done`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("smollm2_chat_template.jinja")

# SmolLM2's own splitter, which GGUF names ("smollm") and transformers does not rebuild: digits stand alone.
# Without it "  12" becomes other tokens than those the model was trained on.
PRE_TOKENIZER = {
    "type": "Sequence",
    "pretokenizers": [
        {"type": "Digits", "individual_digits": True},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    ],
}

# For requests that say nothing. At vLLM's own default, temperature 1, so small a model writes word salad up to the end
# of its context. At its authors' 0.2 these weights, which have been through four bits, answer one question in seven
# about the capital of France in broken French, which to them is next to as likely. Not 0: transformers refuses it with
# `do_sample`. top_p is the authors', as it holds for requests too that name a temperature.
SAMPLING = {"do_sample": True, "temperature": 0.03, "top_p": 0.9}


def convert(source: Path, target: Path) -> None:
    """Write config, bf16 weights, tokenizer and chat template of `source` to the folder `target`."""
    _say(0, "loading the converter")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, name = str(source.parent), source.name
    _say(1, "unpacking the quantized weights")
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    _say(2, "reading the tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    _say(3, "writing the model")
    # vLLM would look for GGUF blocks that are no longer there.
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    tidy(target)
    _say(4, "converted")


def tidy(folder: Path) -> None:
    """Correct what the conversion leaves wrong or machine-specific in the small files."""
    _edit(folder / "config.json", remove=("_model_name_or_path",), rms_norm_eps=1e-5)
    # Chats end with <|im_end|> (2), plain text with <|endoftext|> (0): stop at either.
    _edit(
        folder / "generation_config.json",
        remove=("output_attentions", "output_hidden_states", "_from_model_config"),
        eos_token_id=[2, 0],
        **SAMPLING,
    )
    _edit(folder / "tokenizer.json", pre_tokenizer=PRE_TOKENIZER)
    _edit(
        folder / "tokenizer_config.json",
        remove=("backend", "is_local", "local_files_only"),
        tokenizer_class="PreTrainedTokenizerFast",
        model_max_length=8192,
        clean_up_tokenization_spaces=False,
    )
    # Renders plain chats byte for byte as the model's own template; adds tools and messages without text.
    (folder / "chat_template.jinja").write_text(TEMPLATE.read_text())
    for path in folder.iterdir():
        path.chmod(0o644)


def _edit(path: Path, remove: tuple[str, ...] = (), **changes: Any) -> None:
    content = json.loads(path.read_bytes())
    for key in remove:
        content.pop(key, None)
    content.update(changes)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _say(done: int, what: str) -> None:
    sys.stdout.write(f"{done}/4 {what}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
