"""Control tokens of the well-known model families: inert whatever model is served."""

from __future__ import annotations

_CHATML = (
    "<|im_start|> <|im_end|> <|im_sep|> <|im_user|> <|im_assistant|> <|im_system|> <|im_middle|> "
    "<|endoftext|> <|startoftext|>"
)
_LLAMA = (
    "[INST] [/INST] <<SYS>> <</SYS>> <|begin_of_text|> <|end_of_text|> <|start_header_id|> "
    "<|end_header_id|> <|eot_id|> <|eom_id|> <|python_tag|> <|finetune_right_pad_id|> <|image|> "
    "<|begin_of_image|> <|end_of_image|> <|step_id|> <|header_start|> <|header_end|> <|eot|> <|eom|> "
    "<|step|> <|python_start|> <|python_end|> <|image_start|> <|image_end|> <|patch|>"
)
_MISTRAL = (
    "[AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [TOOL_CONTENT] "
    "[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [MODEL_SETTINGS] [/MODEL_SETTINGS] [IMG_BREAK] [IMG_END] "
    "[BEGIN_AUDIO]"
)
_GEMMA = (
    "<start_of_turn> <end_of_turn> <start_of_image> <end_of_image> <start_of_audio> <end_of_audio> "
    "<start_function_declaration> <end_function_declaration> <start_function_call> <end_function_call> "
    "<start_function_response> <end_function_response> <|turn> <turn|> <|tool> <tool|> <|tool_call> "
    "<tool_call|> <|tool_response> <tool_response|> <|channel> <channel|> <|think|>"
)
_PHI = (
    "<|system|> <|user|> <|assistant|> <|end|> <|tool|> <|/tool|> <|tool_call|> <|/tool_call|> "
    "<|tool_response|> <|placeholder1|>"
)
_DEEPSEEK = (
    "<\uff5cbegin\u2581of\u2581sentence\uff5c> <\uff5cend\u2581of\u2581sentence\uff5c> <\uff5cUser\uff5c> "
    "<\uff5cAssistant\uff5c> <\uff5cSystem\uff5c> <\uff5ctool\u2581calls\u2581begin\uff5c> "
    "<\uff5ctool\u2581calls\u2581end\uff5c> <\uff5ctool\u2581call\u2581begin\uff5c> "
    "<\uff5ctool\u2581call\u2581end\uff5c> <\uff5ctool\u2581outputs\u2581begin\uff5c> "
    "<\uff5ctool\u2581outputs\u2581end\uff5c> <\uff5ctool\u2581output\u2581begin\uff5c> "
    "<\uff5ctool\u2581output\u2581end\uff5c> <\uff5ctool\u2581sep\uff5c> <\uff5cEOT\uff5c> "
    "<\uff5cDSML\uff5c> <\uff5c\u2581pad\u2581\uff5c> <\uff5cfim\u2581begin\uff5c> "
    "<\uff5cfim\u2581hole\uff5c> <\uff5cfim\u2581end\uff5c> <|EOT|>"
)
_QWEN = (
    "<|object_ref_start|> <|object_ref_end|> <|box_start|> <|box_end|> <|quad_start|> <|quad_end|> "
    "<|vision_start|> <|vision_end|> <|vision_pad|> <|image_pad|> <|video_pad|> <|audio_start|> "
    "<|audio_end|> <|audio_pad|> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> "
    "<|file_sep|>"
)
_GPT_OSS = "<|start|> <|message|> <|channel|> <|constrain|> <|return|> <|call|> <|endofprompt|> <|refusal|>"
_COHERE = (
    "<BOS_TOKEN> <EOS_TOKEN> <|START_OF_TURN_TOKEN|> <|END_OF_TURN_TOKEN|> <|SYSTEM_TOKEN|> "
    "<|USER_TOKEN|> <|CHATBOT_TOKEN|> <|START_RESPONSE|> <|END_RESPONSE|> <|START_THINKING|> "
    "<|END_THINKING|> <|START_ACTION|> <|END_ACTION|> <|START_TOOL_RESULT|> <|END_TOOL_RESULT|> "
    "<|NEW_FILE|> <|YES_TOKEN|> <|NO_TOKEN|>"
)
_OTHERS = (
    "<|start_of_role|> <|end_of_role|> <|tool_call_start|> <|tool_call_end|> <|tool_list_start|> "
    "<|tool_list_end|> <|tool_response_start|> <|tool_response_end|> <|bos|> <|eos|> <|pad|> <|padding|> "
    "<|sep|> <|observation|> <|endofuser|> <|endofsystem|> <|prompter|> <|begin_of_solution|> "
    "<|end_of_solution|> <|tool_calls_section_begin|> <|tool_calls_section_end|> <|tool_call_begin|> "
    "<|tool_call_end|> <|tool_call_argument_begin|> <|media_begin|> <|media_content|> <|media_end|> "
    "<|media_pad|> [gMASK] [sMASK] <sop> <eop> <extra_id_0> <|reserved_special_token_0|> <SPECIAL_10> "
    "<SPECIAL_11> <SPECIAL_12> ]~b] ]~!b[ [e~["
)

_AMBIGUOUS = (
    "<s> </s> <unk> <pad> <mask> <bos> <eos> <think> </think> <tool_call> </tool_call> <tool_response> "
    "</tool_response> [PAD] [UNK] [CLS] [SEP] [MASK] [BOS] [EOS] [CALL_ID] [ARGS] [THINK] [/THINK] [IMG] "
    "[PREFIX] [MIDDLE] [SUFFIX]"
)

KNOWN_TOKENS = frozenset(
    " ".join((_CHATML, _LLAMA, _MISTRAL, _GEMMA, _PHI, _DEEPSEEK, _QWEN, _GPT_OSS, _COHERE, _OTHERS)).split()
)
"""Strings that mean nothing but structure."""

AMBIGUOUS_TOKENS = frozenset(_AMBIGUOUS.split())
"""Tokens of some models and plain text for others (`<s>` is HTML).

Inert when the served model has them, or when it is unknown.
"""
