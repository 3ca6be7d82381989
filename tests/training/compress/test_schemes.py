from __future__ import annotations

import pytest

from training.compress.schemes import Scheme, parse_scheme


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("w8a8", Scheme("w8a8", "w8a8")),
        ("gptq", Scheme("gptq", "gptq", symmetric=True)),
        ("w4a16-gptq", Scheme("w4a16-gptq", "gptq", symmetric=True)),
        ("awq", Scheme("awq", "awq", symmetric=False)),
        ("awq-sym-g128", Scheme("awq-sym-g128", "awq", symmetric=True, group_size=128)),
        ("awq-gptq-g32", Scheme("awq-gptq-g32", "awq-gptq", symmetric=False, group_size=32)),
        ("gptq-asym-g32-mixed", Scheme("gptq-asym-g32-mixed", "gptq", False, 32, mixed=True)),
        ("rtn-mixed", Scheme("rtn-mixed", "rtn", mixed=True)),
    ],
)
def test_a_scheme_by_its_name(name: str, scheme: Scheme) -> None:
    assert parse_scheme(name) == scheme


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("w2a2", "METHOD being w8a8, rtn, gptq"),
        ("", "is not a scheme"),
        ("GPTQ", "is not a scheme"),
        ("gptq-g32-asym", "is not a scheme"),
        ("gptq-g48", "groups have 32, 64, 128 weights"),
        ("w8a8-g64", "w8a8 has one scale a row"),
        ("gptq\n", "is not a scheme"),
    ],
)
def test_what_is_no_scheme_is_told_with_the_form_of_names(name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_scheme(name)
