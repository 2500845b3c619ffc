"""A text as clauses, and whether a clause denies what it names. Pure; word lists, so no more than a first rung.

Lists hold grammar (not, cannot, 不, не, ない), not topics. A single character denies nothing where it stands in a name:
`南非`, `非洲` and `不丹` hold no negation, and the answer itself is cut out before anything is looked for.
"""

from __future__ import annotations

import re

COMMA, STOP, QUERY = "\ue000", "\ue001", "\ue002"
"""Marks that stand for the punctuation of clauses, sentences and questions: characters that no text has."""
MARKS = COMMA + STOP + QUERY

_MARKED = (
    # Not inside 1,000, 10:30 or U.S.A.
    (re.compile(r"(?<![0-9a-z])[,;:]|[,;:](?![0-9a-z])|[、،؛—–]"), COMMA),
    (re.compile(r"(?<![0-9a-z])[.!]|[.!](?![0-9a-z])|[。…।\n]"), STOP),
    (re.compile(r"[?؟]"), QUERY),
)

_SPACED = re.compile(
    r"\b(?:not|no|never|neither|nor|none|nothing|nobody|without|instead|rather|cannot|except|doubt|wrong"
    r"|false|incorrect|untrue"
    r"|(?:is|was|are|were|do|does|did|has|have|had|ca|could|wo|would|sha|should|must|need|might|ai)n ?t"
    r"|не|нет|ни|никогда|нельзя|без"
    r"|nicht|kein\w*|nein|niemals|pas|jamais|aucune?|nunca|jamás|não)\b"
    r"|\bnon\b(?!-)"
)
"""Apostrophes are blanks here (`can t`), or were never written (`cant`)."""
_CHINESE = re.compile(
    # 不 denies nearly every verb; what is not denied by it are some names and adverbs.
    r"(?<![对對了差])不(?!丹|列[颠顛]|[来來]梅|[伦倫]瑞克|[错錯]|[过過]|[仅僅]|但|只|少|同|[断斷]|久|[论論]|管|愧|[锈鏽]|等式|止|光)"
    r"|(?<![埋淹沉出])[没沒](?![错錯]|落|收|[药藥]|[问問]|[关關])"
    r"|[并並绝絕决而实實均]非(?!洲)|非也|从未|從未|[并並]未|尚未|未曾|[无無]法|除了|除非|除外|[错錯][误誤]|是[错錯]的"
)
_JAPANESE = re.compile(r"(?<![少危])な(?:い|く|かっ)|ません|いいえ|違[いう]|誤り|以外")
_KOREAN = re.compile(r"아니|아닌|아닙|않|못|없|틀[렸린]")
_KANA = re.compile("[\u3041-\u30ff]")

_ASSURED = re.compile(r"\b(?:no|without) (?:doubt|question)\b|\bnot (?:only|just|merely)\b|毫?[无無]疑[问問]?")
"""Holds a negation and denies nothing."""
_BARE = re.compile(
    r"\s*(?:no|nope|not really|not quite|wait|нет|nein|non|não|不|不是|不是的|不[对對]|否"
    r"|いいえ|違います|아니요|아니오|아니)\s*"
)
"""A clause that only denies: what was asked where it opens the answer, what was said where it follows."""
_CONTRAST = re.compile(r"\s*(?:(?:and|but) )?(?:not|rather than|instead of|而不是|而非)")
"""`Tokyo not Kyoto` says Tokyo."""
_CONTRAST_CLAUSE = re.compile(rf"{_CONTRAST.pattern}|\s*(?:never|не|[并並]非|不是|nicht|pas|non)")
"""`是东京，不是京都` says 东京; `东京不是...`, without the comma, does not."""
_TURN = re.compile(rf"[{STOP}{QUERY}]|\bbut\b|\bsondern\b|\bsino\b|而是|但是|\bа\b|\bно\b|なく")
"""Where the reach of a negation ends: `not Tokyo but Kyoto` says Kyoto."""

_POLAR = frozenset(
    (
        *("yes", "no", "not", "never", "none", "nothing", "да", "нет", "oui", "non", "ja", "nein", "sí", "sim", "não"),
        *("是", "不", "不是", "否", "对", "對", "不对", "不對", "有", "没有", "沒有", "没", "沒", "会", "會", "不会"),
        *("不會", "能", "不能", "可以", "不可以", "はい", "いいえ", "네", "예", "아니요", "아니오"),
    )
)


def mark(text: str) -> str:
    """Case-folded text with the punctuation of clauses as marks."""
    for pattern, sign in _MARKED:
        text = pattern.sub(f" {sign} ", text)
    return text


def denies(clause: str) -> bool:
    """Whether anything in a folded clause negates. Not told: irony, and what no list has."""
    clause = _ASSURED.sub(" ", clause)
    if _SPACED.search(clause):
        return True
    of_han = _JAPANESE if _KANA.search(clause) else _CHINESE
    return bool(of_han.search(clause) or _KOREAN.search(clause))


def denied(before: str, after: str) -> bool:
    """Whether a marked text denies the answer that stands between the two parts.

    Negations before it reach it up to the end of their sentence or a `but`; one that is a clause of its own (`No, it is
    Tokyo`) denies something else. Those after it are taken to mean it unless they open a contrast (`not Kyoto`).
    """
    *others, own = _TURN.split(before)[-1].split(COMMA)
    if denies(own) or any(denies(clause) for clause in others if not _BARE.fullmatch(clause)):
        return True
    own, *others = (part for half in _TURN.split(after) for part in half.split(COMMA))
    if denies(own) and not _CONTRAST.match(own):
        return True
    return any(denies(part) and not _CONTRAST_CLAUSE.match(part) for part in others)


def opens(before: str, after: str) -> bool:
    """Whether the answer between the two parts of a marked text is its first clause: `No, it is not`.

    What follows only goes on, unless it takes the answer back at once: `Tokyo? No`, `Tokyo, no, Kyoto`.
    """
    rest = after.lstrip()
    if before.strip(MARKS + " ") or rest[:1] not in (COMMA, STOP):
        return False
    following = re.split(f"[{MARKS}]", rest[1:], maxsplit=1)[0]
    return not _BARE.fullmatch(following)


def is_polar(answer: str) -> bool:
    """Yes or no in some words: such a word says something else inside a sentence (`no doubt`, `它是...`)."""
    return answer in _POLAR


def answers_polar(before: str, after: str) -> bool:
    """Whether a marked text gives a yes or no as its answer: it opens with it, or ends on it after a copula."""
    if not before.strip(MARKS + " "):
        return bool(re.match(rf"[的啊呀吧]?\s*(?:[{MARKS}]|$)|\s(?:it|there|they|he|she|that|this|i|we|you)\b", after))
    return bool(
        not after.strip(MARKS + " ")
        and re.search(rf"(?:\b(?:is|say|be|это|est|ist|es|é)\s*|[是为為])[{MARKS} ]*$", before)
        and not denies(before)
    )
