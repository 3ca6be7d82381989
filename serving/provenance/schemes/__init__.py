"""Watermark schemes behind one interface: what counts in a text, what it scores, what a score is worth.

In come token ids and seeds, out come scores and exact p-values. numpy alone: the marking side is the engine's plugin.
Each scheme is also read by a detector that others wrote.
"""

from collections.abc import Mapping
from types import MappingProxyType

from serving.provenance.schemes.dual_gumbel import DualGumbel
from serving.provenance.schemes.gumbel import Gumbel
from serving.provenance.schemes.kgw import Kgw
from serving.provenance.schemes.scheme import BEFORE_THE_ANSWER, Cumulants, Pairs, Rivals, Scheme
from serving.provenance.schemes.synthid import SynthId

DEFAULT_SCHEME = "gumbel"
SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {scheme.name: scheme for scheme in (Gumbel(), DualGumbel(), Kgw(), SynthId())}
)

__all__ = ["BEFORE_THE_ANSWER", "DEFAULT_SCHEME", "SCHEMES", "Cumulants", "Pairs", "Rivals", "Scheme"]
