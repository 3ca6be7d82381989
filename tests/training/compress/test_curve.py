from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree

from training.compress.curve import Point, curve
from training.evaluate.scores import Score


def points(*ratios: float) -> list[Point]:
    return [
        Point(f"gptq-<{number}>", 4 + number / 4, Score(each, each - 0.01, each + 0.01))
        for number, each in enumerate(ratios)
    ]


def test_fewer_bits_stand_to_the_left_and_larger_losses_above() -> None:
    drawn = curve("tiny@1 & its kin", {"chats": points(1.2, 1.1, 1.0), "wiki": points(1.3, 1.2, 1.1)})

    root = ElementTree.fromstring(drawn)
    assert root.get("aria-label") == "tiny@1 & its kin"
    marks = [circle for circle in root.iter("{http://www.w3.org/2000/svg}circle") if len(circle)]
    places = [(float(mark.get("cx", "")), float(mark.get("cy", ""))) for mark in marks]
    assert len(places) == 6
    assert places[0][0] < places[1][0] < places[2][0]
    assert places[0][1] < places[1][1] < places[2][1]
    assert drawn.count(">gptq-&lt;0&gt;<") == 1
    assert "gptq-&lt;0&gt;: 4.00 bits, 1.200 (1.190 to 1.210)" in drawn


def test_a_single_scheme_without_loss_is_drawn() -> None:
    drawn = curve("one", {"chats": [Point("w8a8", 8.0, Score(1.0, 1.0, 1.0))]})

    assert "nan" not in drawn
    assert re.search(r"<circle cx=\"[\d.]+\" cy=\"[\d.]+\" r=\"5\" fill=\"#0072b2\"><title>w8a8: 8.00 bits", drawn)
