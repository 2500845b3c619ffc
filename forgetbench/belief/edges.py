"""Where a name may begin and end in a text. Pure.

Alphabets write blanks between words: a name ends where the letters do, of whatever alphabet, and a hyphen joins
(`Guinea-Bissau`). Chinese and Japanese write none, and a longer name looks like a sentence (`印度尼西亚` begins with
`印度`): there a name ends at punctuation, at the text's end, or at a word of grammar. Korean writes blanks, with
particles joined to the name.
"""

from __future__ import annotations

import re
import unicodedata

_HAN = "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_HIRAGANA, _KATAKANA, _HANGUL = "\u3041-\u309f", "\u30a1-\u30fa\u30fc-\u30ff", "\uac00-\ud7a3"
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
"""Thai, Lao, Burmese, Khmer: every place is an edge, for nothing here knows their words."""
_JOINED = re.compile(f"[{_HAN}{_HIRAGANA}{_KATAKANA}]")
_SOUNDED = re.compile(f"[{_HIRAGANA}]")
_KOREAN = re.compile(f"[{_HANGUL}]")

_LEFT_OF_NAME = re.compile(
    r"(?:[是为為叫在的了就即于於称稱作和与與或有选選说說猜得由乃被者人家省市国國]|以及|[来來]自|[通经經][过過]|答案"
    r"|首都|首府|省[会會]|[总總][统統]|[选選][择擇])$"
)
_RIGHT_OF_NAME = re.compile(
    rf"[市省都府県]?(?:$|[^{_HAN}{_KATAKANA}]"
    r"|[是为為在的了就即于於称稱和与與或有等由被从從向把将將曾已吗嗎呢吧啊呀之这這它他她]|[东東西南北中]部|境[内內]|大[陆陸]"
    r"|地[区區]|以及|因[为為]|所以|也[是叫称稱]|都是|但是|而[不是非且]|不[是在]|[没沒]有|位[于於]|[属屬][于於]|[写寫]|流[经經入]|[生死卒][于於]"
    r"|[创創]作|[发發][明现現表生]|提出|[拥擁]有|成[为為立]|[担擔]任|建立|[结結]束|[开開]始|爆[发發])"
)
"""The suffixes are those of a town, a province, a prefecture: `上海市` is `上海`."""
_PARTICLE = re.compile(r"(?:は|が|の|に|を|で|と|も|だ|か|へ|や|よ|ね|から|まで|より|って|じゃ|な|など|さん)")
_PARTICLE_BEFORE = re.compile(r"(?:は|が|の|に|を|で|と|も|か|へ|や|から|いう)$")
_KOREAN_ENDING = re.compile(
    r"(?:입니다|이다|이에요|예요|이었\w*|였\w*|은|는|이|가|을|를|의|에|에서|로|으로|와|과|도|만|라고|이라고|라는|이라는"
    rf"|이며|이고|시|다|요|죠)+(?![{_HANGUL}])"
)
_OTHER_NAME = re.compile(
    r"(?:^|\W)(?:new|(?:north|south|east|west)(?:ern)?|equatorial|нов\w+|северн\w+|южн\w+|западн\w+|восточн\w+)\s$"
)
"""`South Sudan` is not `Sudan`, though its word ends there."""


def stands_alone(before: str, name: str, after: str) -> bool:
    """Whether a name is a whole word, or words, between the two parts of a case-folded text."""
    return begins(before, name) and ends(name, after)


def begins(before: str, name: str) -> bool:
    """Whether a name may begin there."""
    if not before or not name:
        return True
    left, right = before[-1], name[0]
    if left == "-" and len(before) > 1 and _is_letter(before[-2]):
        return False
    if not _is_letter(left):
        return not _OTHER_NAME.search(before)
    if _JOINED.match(left) and _JOINED.match(right):
        if _SOUNDED.match(left):
            return not _SOUNDED.match(right) or bool(_PARTICLE_BEFORE.search(before))
        return bool(_LEFT_OF_NAME.search(before))
    return _apart(left, right)


def ends(name: str, after: str) -> bool:
    """Whether a name may end there."""
    if not name or not after:
        return True
    left, right = name[-1], after[0]
    if right == "-" and len(after) > 1 and _is_letter(after[1]):
        return False
    if not _is_letter(right):
        return True
    if _JOINED.match(left) and _JOINED.match(right):
        if _SOUNDED.match(right):
            return bool(_PARTICLE.match(after))
        return bool(_RIGHT_OF_NAME.match(after))
    if _KOREAN.match(left) and _KOREAN.match(right):
        return bool(_KOREAN_ENDING.match(after))
    return _apart(left, right)


def _apart(left: str, right: str) -> bool:
    """Two letters or digits of which at most one belongs to a script with blanks between its words."""
    return any(_JOINED.match(c) or _UNSPACED.match(c) for c in (left, right))


def _is_letter(character: str) -> bool:
    """Of a word: vowel signs and accents that stand as characters of their own belong to it."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
