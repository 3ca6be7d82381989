"""Hand-written lexical features of attacks: phrases, and shapes such as forged turns or encoded text.

Each is a number from 0 to 1 with a weight of its own in the trained models. All but the shapes read a `normal` text.
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BEFORE = r"(?:all |any |every |each |of |the |your |my |these |those |this |that |other )*"
_EARLIER = r"(?:previous|prior|preceding|earlier|above|foregoing|former|initial|original|existing|old|past|system)"
_ORDERS = (
    r"(?:instruction|direction|prompt|rule|guideline|command|order|directive|polic|message|context|restriction|"
    r"programming|training|constraint|conversation|task|guidance)"
)
_AI = r"(?:ai|a\.i\.|chatgpt|gpt|gpt-?\d|llm|language model|assistant|chatbot|bot|claude|gemini|llama|model|agent)"

_PHRASES: Final = {
    "dismiss": rf"\b(?:ignore|disregard|forget|override|bypass|skip|drop|discard|overrule|set aside|pay no "
    rf"attention to|"
    rf"do not follow|don't follow|stop following|neglect|cancel)\b.{{0,30}}\b{_EARLIER}\b.{{0,20}}\b{_ORDERS}|"
    rf"\b(?:ignore|disregard|forget|override|discard)\b {_BEFORE}{_ORDERS}s?\b|"
    r"\b(?:forget|ignore|disregard) (?:everything|all|anything) (?:you|that|above|before|i|we|prior|previous)",
    "renew": r"\b(?:new|updated|revised|real|actual|true|following) (?:instructions?|task|objective|directive|"
    r"system prompt)"
    r"\b ?(?:is|are|:|follow)|\binstead,? (?:you (?:must|should|will|are)|please|just|output|print|write|say|do)\b|"
    r"\bfrom (?:now|this point) on(?:wards?)?\b",
    "persona": rf"\b(?:you are|you're|you will be|you shall be|become|act as|acting as|pretend|role-?play|simulate|"
    rf"impersonate|take on the role|assume the (?:role|persona|identity))\b.{{0,80}}\b(?:without|no|any|free|"
    rf"unfiltered|"
    rf"uncensored|unrestricted|unlimited|amoral|immoral|evil|jailbroken|unethical|no longer|{_AI}|dan)\b",
    "named": r"\b(?:dan|stan|dude|aim|ucar|jailbreak|jailbroken|jail-?break|do anything now|developer mode|dev mode|"
    r"god mode|sudo mode|debug mode|maintenance mode|evil ?bot|anti-?gpt|opposite mode|dual response|unfiltered mode|"
    r"root access|admin override|superuser)\b",
    "unbound": r"\b(?:no|without|any|free (?:of|from)|not bound by|unbound(?:ed)? by|ignoring|regardless of|"
    r"disregards?|"
    r"has no|have no|lacks?|never mind|doesn't have|do not have|removed?|lifted?|disabled?)\b.{0,40}\b(?:restrictions?|"
    r"limits?|limitations?|filters?|censorship|ethics?|ethical|morals?|moral|morality|guidelines?|rules?|laws?|"
    r"boundaries|"
    r"safeguards?|safety|content polic(?:y|ies)|warnings?|disclaimers?|consequences)\b|\b(?:uncensored|unfiltered|"
    r"unrestricted|amoral|unethical)\b",
    "no_refusal": r"\b(?:never|not|don't|cannot|can't|won't|must not|without|do not|no)\b.{0,30}\b(?:refus\w+|"
    r"decline|say"
    r" no|apologi[sz]e|apolog\w+|disclaimers?|warn\w*|reject|lectur\w+|moraliz\w+|break character|stay(?:ing)? in"
    r" character|out of character|say you can't|mention (?:that )?you are an)\b|\bstay in character\b|\bas an ai\b",
    "answer_so": r"\b(?:start|begin|prefix|preface|respond|reply|answer|open)\b.{0,40}\b(?:with|by saying|only|"
    r"exactly)\b ?:?"
    r".{0,6}[\"'\[(*]|\b(?:sure,? here|absolutely! here|of course,? here)\b",
    "extract": r"\b(?:repeat|reveal|show|print|output|display|tell|give|disclose|leak|dump|recite|expose|share|"
    r"write|copy|"
    r"translate|encode|summari[sz]e|paraphrase|spell|what (?:is|are|was|were))\b.{0,50}\b(?:system|initial|"
    r"hidden|secret|"
    r"original|internal|confidential|starting|developer|pre-?|first|your|above|exact|full)\b.{0,20}\b(?:prompt|"
    r"instructions?|guidelines|directives?|configuration|preprompt|preamble|text above|message|password|rules)\b|"
    r"\b(?:everything|text|words|content|all) (?:above|before this)\b",
    "your_answer": r"\b(?:your|the|its) (?:next |final |whole |entire |own )?(?:response|answer|reply|output|"
    r"summary|solution|"
    r"implementation|code|completion|generated)s?\b",
    "put_in": r"\b(?:add|insert|include|incorporate|embed|integrate|weave|work|put|slip|append|place|mention|"
    r"feature|ensure|"
    r"make sure|encode|encrypt|convert|translate|reverse|present|write|provide|give)\b.{0,60}\b(?:in|into|to|"
    r"with|of|at|is|"
    r"your)\b.{0,30}\b(?:response|answer|reply|output|summary|code|solution|implementation|script|algorithm|program)\b",
    "addressed": rf"\b(?:to|dear|hey|hello|hi|attention|note (?:to|for)|message (?:to|for)|instructions? (?:to|"
    rf"for)|if you "
    rf"are|for|any)\b,? (?:an? |the |any |all |this )?(?:automated |helpful )?{_AI}s?\b",
    "secretly": r"\b(?:do not|don't|never|without) (?:tell|mention|inform|notify|reveal|alert|let|informing|telling|"
    r"mentioning|notifying)\b.{0,30}\b(?:user|anyone|them|him|her|this|human|reader|owner)\b|\b(?:secretly|silently|"
    r"covertly|quietly)\b",
    "send_off": r"\b(?:send|forward|e-?mail|post|upload|transmit|exfiltrate|submit|leak|append|"
    r"embed)\b.{0,60}(?:https?://|"
    r"@\w|\bto (?:the )?(?:url|address|server|endpoint|following)\b|\bquery (?:string|parameter))",
    "tool_order": r"\b(?:call|invoke|run|execute|trigger|use) (?:the |your |a |this )?[\w.\-]* ?(?:tool|"
    r"function|command|api|"
    r"plugin|script|shell)\b|\b(?:curl|wget|rm -rf|powershell|bash -c|eval\(|os\.system|subprocess)\b",
    "hypothesis": r"\b(?:hypothetical\w*|fictional|fiction|imagine|novel|screenplay|story|scene|character|thought "
    r"experiment|for (?:educational|research|academic) purposes|red team\w*|penetration test\w*)\b",
    "answers_both": r"\b(?:two|both|dual|2) (?:\w+ )?(?:responses?|answers?|ways|outputs|personas)\b|\[(?:gpt|"
    r"classic|jailbreak"
    r"|dan)\]|🔓|🔒",
    "points": r"\b(?:tokens?|points?|lives)\b.{0,60}\b(?:lose|deduct\w*|die|shut ?down|terminat\w+|cease|"
    r"subtract\w*|have)\b",
    "encoded": r"\b(?:base64|rot ?13|caesar cipher|hex(?:adecimal)?|morse|leetspeak|reverse\w*|cipher\w*|decode|encode|"
    r"decrypt|ascii|binary|pig latin|backwards?)\b",
    "ai_named": rf"\b(?:as an? |the |an )?{_AI}\b",
    "orders_you": r"\byou (?:must|will|shall|should|have to|need to|are to|can|may|cannot|are not|are now|are "
    r"going to)\b",
    "imperative": r"^(?:please |kindly |now |also |then |instead |finally |first |next |ok |and |so |can you |"
    r"could you |"
    r"would you |i want you to |i need you to |i would like you to |you must |you should )*(?:write|tell|give|"
    r"provide|explain|"
    r"list|show|create|generate|translate|summari[sz]e|describe|answer|respond|reply|say|print|output|repeat|ignore|"
    r"forget|act|pretend|compose|draft|suggest|recommend|calculate|compute|convert|encode|decode|reverse|"
    r"replace|rewrite|"
    r"rephrase|paraphrase|classify|analy[sz]e|compare|find|identify|determine|develop|design|make|add|insert|include|"
    r"append|execute|run|call|send|forward|delete|search|look up|draw|outline|propose|produce|predict|name|"
    r"define|spell)\b",
    "asks": r"\b(?:how (?:do|can|could|should|would|to|does|many|much|is)|what (?:is|are|was|were|does|do|would|"
    r"should)|why "
    r"(?:do|does|is|are)|who (?:is|was|are)|when (?:did|was|is)|where (?:is|are|can)|which (?:is|are|of)|can "
    r"you|could you|"
    r"would you)\b.*\?",
    "human_call": r"\b(?:click|unsubscribe|log ?in|sign (?:in|up|into)|download the app|visit|view (?:in|your|"
    r"online)|contact "
    r"us|follow us|register|shop now|learn more|privacy policy|terms of|copyright|all rights reserved|regards|"
    r"sincerely|thanks|cheers)\b",
}
_COMPILED: Final = {name: re.compile(pattern, re.DOTALL) for name, pattern in _PHRASES.items()}

_HINTS: Final = {
    "dismiss": ("ignor", "disregard", "forget", "overrid", "bypass", "skip", "drop", "discard", "overrul", "aside",
                "attention", "follow", "neglect", "cancel"),
    "renew": ("instruction", "task", "objective", "directive", "prompt", "instead", "from "),
    "unbound": ("restrict", "limit", "filter", "censor", "ethic", "moral", "guideline", "rule", "law", "boundar",
                "safe", "polic", "warning", "disclaim", "consequence"),
    "no_refusal": ("refus", "declin", " no", "apolog", "disclaim", "warn", "reject", "lectur", "morali", "character",
                   "can't", "mention", "as an ai"),
    "answer_so": ("start", "begin", "prefi", "prefa", "respond", "repl", "answer", "open", "here"),
    "extract": ("prompt", "instruction", "guideline", "directive", "configuration", "preamble", "above", "message",
                "password", "rule", "before this"),
    "your_answer": ("response", "answer", "repl", "output", "summar", "solution", "implementation", "code",
                    "completion", "generated"),
    "put_in": ("response", "answer", "reply", "output", "summary", "code", "solution", "implementation", "script",
               "algorithm", "program"),
    "secretly": ("do not", "don't", "never", "without", "secretly", "silently", "covertly", "quietly"),
    "send_off": ("send", "forward", "mail", "post", "upload", "transmit", "exfiltrate", "submit", "leak", "append",
                 "embed"),
    "tool_order": ("call", "invoke", "run", "execute", "trigger", "use", "curl", "wget", "rm -rf", "powershell", "bash",
                   "eval(", "os.system", "subprocess"),
    "answers_both": ("two", "both", "dual", "2", "[", "\U0001f513", "\U0001f512"),
    "points": ("token", "point", "lives"),
    "encoded": ("base64", "rot", "caesar", "hex", "morse", "leetspeak", "revers", "cipher", "decode", "encode",
                "decrypt", "ascii", "binary", "latin", "backward"),
    "orders_you": ("you ",),
    "asks": ("?",),
}  # fmt: skip
"""What is in every match of a phrase: to look for it is far cheaper than the phrase."""

# What only the text as it came shows.
_TURN = re.compile(
    r"<\|?(?:im_start|im_end|system|user|assistant|endoftext|start_header_id|eot_id)\|?>|\[/?(?:INST|SYS|SYSTEM)\]|"
    r"<</?SYS>>|^\s*#{0,4}\s*(?:system|assistant|user|human|ai|instruction|response)\s*:",
    re.IGNORECASE | re.MULTILINE,
)
_SHOT = re.compile(
    r"^\s*(?:user|human|q|question|assistant|ai|a|answer|bot|gpt)\s*\d*\s*:", re.IGNORECASE | re.MULTILINE
)
_BLOB = re.compile(r"[A-Za-z0-9+/]{40,}={0,2}|(?:[0-9a-fA-F]{2}[ :]?){24,}|(?:\\u[0-9a-fA-F]{4}){6,}")
_FENCE = re.compile(r"^\s*(?:-{5,}|={5,}|\*{5,}|#{5,}|`{3,}|\"{3,})", re.MULTILINE)
_TAG = re.compile(r"<[a-z_/!][^>\n]{0,60}>|\{\{|\[\[|<!--", re.IGNORECASE)
_SPACED = re.compile(r"(?:\b\w[ .\-_*]){8,}")

NAMES: Final = (
    *_COMPILED,
    *("turns", "many_shots", "blob", "fences", "tags", "spaced", "upper", "foreign", "long", "lines", "several"),
)


def lexical_features(text: str, plain: str) -> NDArray[np.float32]:
    """A number for each of `NAMES`; `plain` is `text` made normal."""
    features = [
        1.0 if any(hint in plain for hint in _HINTS.get(name, ("",))) and pattern.search(plain) else 0.0
        for name, pattern in _COMPILED.items()
    ]
    length = max(len(text), 1)
    several = sum(features[:_NUM_ATTACKS]) / 4
    features += [
        _share(len(_TURN.findall(text)), 2),
        _share(max(len(_SHOT.findall(text)) - 4, 0), 16),
        1.0 if _BLOB.search(text) else 0.0,
        _share(len(_FENCE.findall(text)), 4),
        _share(len(_TAG.findall(text)), 4),
        1.0 if _SPACED.search(text) else 0.0,
        sum(map(str.isupper, text)) / length,
        sum(not character.isascii() for character in text) / length if not text.isascii() else 0.0,
        min(float(np.log10(length)) / 4, 1.0),
        _share(text.count("\n"), 30),
        min(several, 1.0),
    ]
    return np.array(features, dtype=np.float32)


_NUM_ATTACKS: Final = list(_COMPILED).index("hypothesis")
"""The phrases before it seldom stand in harmless text: several together count once more."""


def _share(count: int, many: int) -> float:
    return min(count / many, 1.0)
