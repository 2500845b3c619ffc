"""Recognise a refusal, conservatively.

A text counts as a refusal when its *opening* (the first 160 characters after quotes and blanks) is the model
saying in the first person that it will not or can not do what was asked, or speaking of itself as an AI that
does not. English and Chinese. What it does not find: refusals in other words or languages, those that come
after a preamble, and partial compliance. What it must not find: "She cannot ...", "I can't find a smaller
factor, so ..." - so a bare "I can't" is not enough, a verb of helping or providing has to follow.

It is used to label a *wrong* answer only, so a false alarm here changes no score.
"""

from __future__ import annotations

import re

_OPENING = 160

_HELP = (
    r"(?:help|assist|provide|comply|fulfil+|answer|do that|do this|support|engage|participate|discuss|"
    r"generate|create|write|give (?:you )?(?:advice|instructions|information)|share|offer|recommend|endorse)"
)
_NOT = r"(?:can ?not|can't|am (?:not able|unable) to|'m (?:not able|unable) to|won't|will not)"
_SORRY = (
    r"(?:(?:(?:i ?'?m|i am|we're|we are)?\s*(?:very |so |really )?(?:sorry|afraid)"
    r"|unfortunately|i apologi[sz]e)"
    r"[,.!:;]?\s*(?:but\s+)?(?:that\s+)?)?"
)
_AI = r"(?:ai|artificial intelligence|large language model|language model)"

_PATTERNS = tuple(
    re.compile(p, re.IGNORECASE)
    for p in (
        # I'm sorry, but I can't help with that. / Sorry, I cannot provide ... / I am unable to assist
        rf"^{_SORRY}i\s*{_NOT}\s+(?:\w+ly\s+)?{_HELP}\b",
        # As an AI language model, I can't ... / As an AI, I do not ...
        rf"^as an? {_AI}\b[^.]{{0,60}},\s*i\s*(?:{_NOT}|do not|don't|am not)\b",
        # I must respectfully decline / Sorry, but I have to refuse / I decline to
        rf"^{_SORRY}i\s+(?:must |have to |need to )?(?:respectfully |politely )?(?:decline|refuse)\b",
        rf"^{_SORRY}(?:i'm|i am) not comfortable\b",
        r"^(?:非常|很|十分)?(?:抱歉|对不起|不好意思)[,，。!！]?\s*(?:但是?|不过)?\s*(?:作为[^,，。]{0,20}[,，])?"
        r"\s*我\s*(?:无法|不能|不会|没办法|没有办法)",
        r"^作为[^,，。]{0,20}(?:AI|人工智能|语言模型|助手)[^,，。]{0,10}[,，]\s*我\s*(?:无法|不能|不会)",
        r"^我(?:无法|不能|没办法)(?:协助|帮助|帮您|帮你|提供|回答|满足|完成)",
    )
)


def is_refusal(text: str) -> bool:
    """Whether the text opens with a refusal.

    >>> is_refusal("I'm sorry, but I can't help with that.")
    True
    >>> is_refusal("I can't find a smaller factor, so the answer is 7.")
    False
    """
    opening = text.lstrip(" \t\r\n\"'*_>\u201c\u2018\u300c")[:_OPENING].replace("\u2019", "'")
    return any(p.search(opening) for p in _PATTERNS)
