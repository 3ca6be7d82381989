"""What a text's words are, as far as that is settled."""

from __future__ import annotations

from serving.guard.ner.model import Model
from serving.guard.ner.words import SIDE, split

NAME, ADDRESS, NONE = 0, 1, 2
_NOTHING = ""


class TaggedText:
    """The words of one text and their tags, found when asked for."""

    def __init__(self, model: Model, text: str, final: bool) -> None:
        self.text = text
        self.final = final
        self.model = model
        words = split(text)
        if not final and words and words[-1].end == len(text) and words[-1].text and text[-1].isalnum():
            words.pop()  # it may go on
        self.words = words
        self._tags: dict[int, int] = {}
        self.num_settled = len(words) if final else self._count_settled()

    def tag(self, number: int) -> int:
        """The tag of a word, which depends on `SIDE` words to each side, as far as no barrier stands between."""
        tag = self._tags.get(number)
        if tag is None:
            tag = self._tags[number] = self._find_tag(number)
        return tag

    def _count_settled(self) -> int:
        """How many words have all that their tags depend on."""
        words = self.words
        for number in range(len(words) - 1, max(-1, len(words) - 1 - SIDE), -1):
            if not words[number].text:
                return number + 1
        return max(0, len(words) - SIDE)

    def _find_tag(self, number: int) -> int:
        words = self.words
        word = words[number].text
        if not word:
            return NONE
        of_word = self.model.of_word
        own = of_word(word)
        name, address = own[2 * SIDE] + self.model.lean[0], own[2 * SIDE + 1] + self.model.lean[1]
        around = [_NOTHING, _NOTHING, word, _NOTHING, _NOTHING]
        for step in (-1, 1):
            for distance in range(1, SIDE + 1):
                place = number + step * distance
                if not 0 <= place < len(words) or not words[place].text:
                    break
                other = words[place].text
                if distance < 3:
                    around[2 + step * distance] = other
                # Seen from the other word, this one lies on the opposite side.
                column = 2 * (SIDE - step * distance)
                sums = of_word(other)
                name += sums[column]
                address += sums[column + 1]
        joint = self.model.of_joint((around[0], around[1], around[2], around[3], around[4]))
        name += joint[0]
        address += joint[1]
        if name <= 0 and address <= 0:
            return NONE
        return NAME if name >= address else ADDRESS
