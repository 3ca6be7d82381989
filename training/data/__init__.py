"""From text to examples: JSONL chats are read, checked, and encoded with the model's chat template.

In come files with one `{"messages": […]}` a line and a tokenizer; out go examples of token ids in which only
what the assistant says has a label. Bad input is named as `file:line: what is wrong`.
"""

from training.data.chats import Chat, Message, read_chats
from training.data.encoding import IGNORED, ChatEncoder, Example, encode_all
from training.data.split import check_disjoint, split_heldout

__all__ = [
    "IGNORED",
    "Chat",
    "ChatEncoder",
    "Example",
    "Message",
    "check_disjoint",
    "encode_all",
    "read_chats",
    "split_heldout",
]
