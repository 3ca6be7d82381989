"""Chat templates in the manner of known families, written for these tests, and how they are rendered.

Each is one of the ways in which what a template writes depends on what it is given.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

_TEXT = "{{ m.content or '' }}"


def _turns(text: str) -> str:
    """ChatML, with `text` for what is written of a message."""
    turn = "<|im_start|>{{ m.role }}\n" + text + "<|im_end|>\n"
    return "{% for m in messages %}" + turn + "{% endfor %}<|im_start|>assistant\n"


PLAIN = _turns(_TEXT)
DELETES = _turns("{{ (m.content or '').replace('/think', '').replace('/no_think', '') }}")
CUTS = _turns("{% for piece in (m.content or '').split('~') %}{{ piece }}{% endfor %}")
LOWERS = _turns("{{ (m.content or '') | lower }}")
NAMES = "{% for m in messages %}<|{{ m.name or m.role }}|>\n{{ m.content or '' }}<|end|>\n{% endfor %}<|assistant|>\n"
KEYS = _turns(
    "{{ m.content or '' }}{% for call in m.tool_calls or [] %}{% for key, value in call.function.arguments.items() %}"
    "{{ '<' ~ key ~ '>' ~ value ~ '</' ~ key ~ '>' }}{% endfor %}{% endfor %}"
)
# The reasoning of earlier turns is cut away; that of the last is written anew between tags of the template's own.
THINKS = (
    "{% for m in messages %}{% set content = m.content if m.content is string else '' %}{% set reasoning = '' %}"
    "{% if m.role == 'assistant' and '</think>' in content %}"
    "{% set reasoning = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
    "<|im_start|>{{ m.role }}\n"
    "{% if loop.last and reasoning %}<think>{{ reasoning }}</think>{% endif %}{{ content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n{% if '/no_think' in messages[0].content %}<think>\n\n</think>\n{% endif %}"
)
# Tools stand before the last question, results are grouped, dates are the day's.
TOOLS = (
    "<s>{% if date_string %}[SYSTEM_PROMPT]{{ date_string }}[/SYSTEM_PROMPT]{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}"
    "{% if loop.last and tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}[/AVAILABLE_TOOLS]{% endif %}"
    "[INST]{{ m.content }}[/INST]{% elif m.role == 'tool' %}[TOOL_RESULTS]{{ m.content }}[/TOOL_RESULTS]"
    "{% elif m.tool_calls %}[TOOL_CALLS]{% for call in m.tool_calls %}{% if call.id | length != 9 %}"
    "{{ raise_exception('ids have nine characters') }}{% endif %}{{ call.function | tojson }}{% endfor %}</s>"
    "{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
)
# A token for each string of a schema, by its type.
SCHEMAS = (
    "{% for tool in tools or [] %}<start_function_declaration>{{ tool.function.name }}"
    "{% for name, spec in tool.function.parameters.properties.items() %}{{ name }}:"
    "{% if spec.type == 'string' %}<escape>STRING<escape>{% elif spec['type'] == 'object' %}{}{% endif %}{% endfor %}"
    "<end_function_declaration>{% endfor %}" + _turns(_TEXT)
)
PARTS = _turns(
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content or [] %}"
    "{% if part.type == 'image' %}<|image_pad|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
)
WIDE = (
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>{% for m in messages %}<\uff5cUser\uff5c>{{ m.content }}{% endfor %}"
    "<\uff5cAssistant\uff5c>"
)

ALL = {
    name: value
    for name, value in vars().copy().items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str)
}
_TOKENS = """
<|im_start|> <|im_end|> <|end|> <|user|> <|assistant|> <|system|> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS]
[/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [SYSTEM_PROMPT] [/SYSTEM_PROMPT] <|image_pad|>
<start_function_declaration> <end_function_declaration> <\uff5cbegin\u2581of\u2581sentence\uff5c> <\uff5cUser\uff5c>
<\uff5cAssistant\uff5c>
"""
SPECIAL = _TOKENS.split()
TOKENS = [*SPECIAL, "<think>", "</think>", "<tool_call>", "</tool_call>", "<escape>"]


def _refuse(message: str) -> str:
    raise ValueError(message)


_ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
_ENVIRONMENT.filters["tojson"] = json.dumps  # as transformers does: Jinja's own escapes HTML
_ENVIRONMENT.globals["raise_exception"] = _refuse


@cache
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


def render(template: str, messages: list[dict[str, Any]], variables: dict[str, Any]) -> str:
    return _compiled(template).render(messages=messages, **variables)
