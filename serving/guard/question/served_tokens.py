"""Reads the control tokens of a model from its tokenizer's files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_STRUCTURE = re.compile(r"<[|\uff5c/]?[^\s<>]{1,60}>|\[/?[A-Z][A-Z_ ]{1,40}\]|<</?[A-Z]{2,20}>>")
"""What an added token that is not marked special looks like when it is structure all the same."""

# Gemma's tokenizers have HTML's tags as added tokens: they are text, and breaking them would spoil it.
_HTML_TAG = re.compile(
    r"</?(?:a|abbr|address|article|aside|b|big|blockquote|body|br|button|caption|center|cite|code|col|colgroup|dd|del|details|"
    r"div|dl|dt|em|figcaption|figure|font|footer|form|h[1-6]|head|header|hr|html|i|iframe|img|input|ins|kbd|label|li|link|"
    r"main|mark|meta|nav|ol|option|p|pre|q|samp|script|section|select|small|span|strike|strong|style|sub|summary|sup|table|"
    r"tbody|td|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video)/?>",
    re.IGNORECASE,
)
# Structure that a chat template writes although it is no added token: Llama 2's [INST], for one.
_IN_TEMPLATE = re.compile(
    r"<[|\uff5c][^\s<>|\uff5c'\"]{1,60}[|\uff5c]?>|<[^\s<>|\uff5c'\"]{1,60}[|\uff5c]>|\[/?[A-Z][A-Z_]{1,40}\]|<</?[A-Z]{2,20}>>"
    r"|</?(?:start|end)_[a-z_]{2,40}>"
)


def control_tokens_of(folder: Path) -> frozenset[str]:
    """Control tokens of the tokenizer in `folder`: special tokens, added ones that look like structure, the template's.

    Raises:
        ValueError: a file is there and cannot be read; with one line for the user.
    """
    tokens = set(_added_tokens(_read(folder / "tokenizer.json").get("added_tokens")))
    config = _read(folder / "tokenizer_config.json")
    tokens.update(_added_tokens(list(_mapping(config.get("added_tokens_decoder")).values())))
    tokens.update(_named_tokens(config))
    tokens.update(_named_tokens(_read(folder / "special_tokens_map.json")))
    tokens.update(token for token in _read(folder / "added_tokens.json") if is_structure(token))
    for template in (*_templates(config), *_template_files(folder)):
        tokens.update(_IN_TEMPLATE.findall(template))
    return frozenset(token for token in tokens if len(token.strip()) > 1)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return _mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path}: {error}. Restore the tokenizer's files.") from None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _added_tokens(entries: Any) -> Iterator[str]:
    for entry in entries if isinstance(entries, list) else ():
        content = _content(entry)
        if content is not None and (entry.get("special") or is_structure(content)):
            yield content


def _named_tokens(config: dict[str, Any]) -> Iterator[str]:
    """`bos_token`, `additional_special_tokens` and their like: a string, an object with `content`, or several."""
    for name, value in config.items():
        if name.endswith("_token"):
            entries = [value]
        elif name.endswith("special_tokens"):
            entries = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
        else:
            continue
        for entry in entries:
            token = entry if isinstance(entry, str) else _content(entry)
            if token is not None:
                yield token


def _content(entry: Any) -> str | None:
    content = _mapping(entry).get("content")
    return content if isinstance(content, str) else None


def is_structure(token: str) -> bool:
    """Whether an added token that is not marked special looks like structure all the same."""
    return _STRUCTURE.fullmatch(token) is not None and _HTML_TAG.fullmatch(token) is None


def _templates(config: dict[str, Any]) -> Iterator[str]:
    template = config.get("chat_template")
    for entry in template if isinstance(template, list) else [template]:
        text = entry.get("template") if isinstance(entry, dict) else entry
        if isinstance(text, str):
            yield text


def _template_files(folder: Path) -> Iterator[str]:
    for path in (*folder.glob("*.jinja"), *folder.glob("additional_chat_templates/*.jinja")):
        yield path.read_text(encoding="utf-8")
