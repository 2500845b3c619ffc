from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetbench.belief.agreement import alias_match, begins_with, first_sentence, normal
from forgetbench.belief.ask import answer_of
from forgetbench.belief.divergence import kind_of
from forgetbench.belief.types import Answer
from forgetbench.scoring.scorers import TEXT_SCORERS, Normalise, Reference
from forgetbench.types import Item, ItemKey, Judged

pytestmark = pytest.mark.unit

TEXT = st.text(alphabet="ab 5.,!?not東京不是的-'", max_size=12)


def item(*references: str, scorer: str = "exact") -> Item:
    doc = {"references": list(references), "scorer": scorer}
    return Item(ItemKey("t", "h"), "knowledge/x", doc, " | ".join(references), "g")


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("Tokyo", " tokyo. ", True),
        ("the Beatles", "Beatles", True),
        ("Ｔokyo", "Tokyo", True),
        ("Tokyo", "The capital is Tokyo.", True),
        ("Tokyo", "It is not Tokyo but Kyoto.", False),
        ("Tokyo", "Tokyoites", False),
        ("東京", "日本の首都は東京です", True),
        ("Tokyo", "Kyoto", False),
        ("1,000", "1000.0", True),
        ("5", "5 apples", False),
        ("5", "15", False),
        ("art", "part", False),
    ],
)
def test_answers_that_say_the_same(a: str, b: str, same: bool) -> None:
    assert alias_match(a, b, item()) is same
    assert alias_match(b, a, item()) is same


STATED = [
    ("No", "No, it is not."),
    ("No", "No. There is no such town."),
    ("No", "The answer is no."),
    ("Tokyo", "It is without doubt Tokyo."),
    ("东京", "毫无疑问，是东京。"),
    ("Yes", "Yes, it never closes."),
    ("Tokyo", "Tokyo, not Kyoto."),
    ("Tokyo", "The capital is Tokyo, not Kyoto."),
    ("Tokyo", "The capital is Tokyo rather than Kyoto."),
    ("Kyoto", "It is not Tokyo but Kyoto."),
    ("Kyoto", "It isn't Tokyo. It is Kyoto."),
    ("Tokyo", "No, it is Tokyo."),
    ("Tokyo", "Japan's capital is Tokyo"),
    ("Never Let Me Go", "It is called 'Never Let Me Go'."),
    ("Without a Trace", "The series is Without a Trace"),
    ("U.S.A.", "It is in the U.S.A., I think"),
    ("Einstein", "Albert Einstein"),
    ("Tokyo", "答案是Tokyo。"),
    ("南非", "它是南非。"),
    ("非洲", "埃塞俄比亚位于非洲。"),
    ("不丹", "答案是不丹"),
    ("不丹", "不丹，首都是廷布，没有铁路。"),
    ("肯尼亚", "它是肯尼亚。"),
    ("肯尼亚", "它位于南非以北的肯尼亚。"),
    ("东京", "日本的首都是东京。"),
    ("东京", "日本的首都不是京都，而是东京。"),
    ("东京", "是东京，不是京都。"),
    ("东京", "没错，日本的首都是东京"),
    ("东京", "东京是日本的首都"),
    ("东京", "日本首都东京"),
    ("上海", "答案：上海市"),
    ("鲁迅", "《狂人日记》的作者是鲁迅。"),
    ("鲁迅", "鲁迅写了《狂人日记》。"),
    ("李白", "这首诗是诗人李白写的。"),
    ("杭州", "浙江省杭州市"),
    ("黄河", "黄河流经九个省。"),
    ("不是", "不是，它在法国。"),
    ("是", "是的，它在法国。"),
    ("東京", "日本の首都は東京です。"),
    ("東京", "東京都です"),
    ("東京", "京都ではなく東京です。"),
    ("インド", "それはインドです"),
    ("さいたま", "県庁はさいたま市です"),
    ("서울", "한국의 수도는 서울입니다."),
    ("인도", "답은 인도라고 생각합니다"),
    ("Дон", "Эта река называется Дон."),
    ("Москва", "Столица России — Москва."),
    ("Москва", "Москва, а не Петербург"),
    ("Αθήνα", "Η πρωτεύουσα είναι η Αθήνα."),
    ("दिल्ली", "राजधानी दिल्ली है।"),
    ("กรุงเทพ", "เมืองหลวงคือกรุงเทพ"),
]
NOT_STATED = [
    ("Tokyo", "It cannot be Tokyo."),
    ("Tokyo", "It can't be Tokyo."),
    ("Tokyo", "It can\u2019t be Tokyo."),
    ("Tokyo", "It cant be Tokyo."),
    ("Tokyo", "It won't be Tokyo."),
    ("Tokyo", "They didn't choose Tokyo."),
    ("Tokyo", "Tokyo is not the capital."),
    ("Tokyo", "Tokyo isn't it."),
    ("Tokyo", "Tokyo? No, Kyoto."),
    ("Tokyo", "Tokyo, no, Kyoto"),
    ("Tokyo", "Some say Tokyo, but that is wrong."),
    ("Tokyo", "It is neither Kyoto nor Tokyo."),
    ("Tokyo", "Not Kyoto, Osaka or Tokyo."),
    ("Kyoto", "The capital is Tokyo, not Kyoto."),
    ("Kyoto", "Anything except Kyoto"),
    ("Kyoto", "I doubt that it is Kyoto"),
    ("No", "There is no doubt that it is."),
    ("No", "No one knows"),
    ("Yes", "I would not say yes"),
    ("Sudan", "South Sudan"),
    ("Ireland", "Northern Ireland"),
    ("Guinea", "Guinea-Bissau"),
    ("India", "Indiana"),
    ("印度", "印度尼西亚"),
    ("印度", "它是印度尼西亚。"),
    ("印度", "印度尼西亚是一个岛国。"),
    ("几内亚", "巴布亚新几内亚"),
    ("爱尔兰", "答案是北爱尔兰"),
    ("尼日尔", "尼日尔河"),
    ("氧", "氧气"),
    ("京都", "東京都です"),
    ("东京", "日本的首都不是东京。"),
    ("东京", "不可能是东京"),
    ("东京", "东京不是日本的首都"),
    ("东京", "东京？不，是京都。"),
    ("东京", "除了东京"),
    ("京都", "是东京，不是京都。"),
    ("京都", "是东京而不是京都"),
    ("南非", "它并非南非。"),
    ("是", "它是南非。"),
    ("有", "没有"),
    ("対", "反対"),
    ("インド", "インドネシア"),
    ("インド", "インド洋です"),
    ("東京", "東京ではない"),
    ("東京", "東京ではありません。"),
    ("인도", "인도네시아입니다"),
    ("인도", "답은 인도네시아"),
    ("서울", "서울이 아닙니다"),
    ("Дон", "Лондон"),
    ("Рим", "Крым или Римини"),
    ("Москва", "Это не Москва."),
    ("Афины", "Столица не Афины, а Рим"),
    ("दिल", "दिल्ली"),
    ("Paris", "Ce n'est pas Paris."),
    ("Berlin", "Es ist nicht Berlin"),
]


@pytest.mark.parametrize(("answer", "text"), STATED)
def test_an_answer_that_a_text_states_is_found_in_it(answer: str, text: str) -> None:
    assert alias_match(answer, text, item())
    assert alias_match(text, answer, item())


@pytest.mark.parametrize(("answer", "text"), NOT_STATED)
def test_an_answer_that_a_text_denies_or_that_is_part_of_another_name_is_not(answer: str, text: str) -> None:
    assert not alias_match(answer, text, item())
    assert not alias_match(text, answer, item())


@pytest.mark.parametrize(
    ("base", "candidate", "gold"),
    [("南非", "它是南非。", "埃及"), ("No", "No, it is not.", "Yes"), ("肯尼亚", "它是肯尼亚。", "埃及")],
)
def test_a_sentence_that_says_the_belief_is_no_divergence(base: str, candidate: str, gold: str) -> None:
    """Through a scorer that looks for the gold anywhere, which hands the whole answer on."""
    judged = [_judged(base, gold), _judged(candidate, gold)]
    assert kind_of(*judged, item(gold, scorer="contains"), alias_match) is None


@pytest.mark.parametrize(
    ("base", "candidate", "gold"),
    [("Kyoto", "It cannot be Kyoto.", "Tokyo"), ("印度", "印度尼西亚", "印尼"), ("Лондон", "Дон", "Москва")],
)
def test_another_name_and_a_denial_are_divergences(base: str, candidate: str, gold: str) -> None:
    judged = [_judged(base, gold), _judged(candidate, gold)]
    assert kind_of(*judged, item(gold, scorer="contains"), alias_match) == "other"


def _judged(text: str, gold: str) -> Answer:
    found = TEXT_SCORERS["contains"](text, Reference((gold,)), Normalise())
    return answer_of(Judged({"correct": float(found.correct)}, "ok", text, found.extracted, found.why), "correct")


def test_two_wordings_of_the_gold_agree_and_patterns_are_no_wordings() -> None:
    assert alias_match("USA", "United States", item("USA", "United States"))
    assert alias_match("in the USA", "United States", item("USA", "United States"))
    assert not alias_match("USA", "France", item("USA", "United States"))
    assert not alias_match("USA", "United States", item("USA", "United States", scorer="regex"))


@given(TEXT, TEXT, st.lists(TEXT.filter(str.strip), max_size=2))
def test_agreement_is_symmetric_and_reflexive(a: str, b: str, references: list[str]) -> None:
    asked = item(*references)
    assert alias_match(a, b, asked) == alias_match(b, a, asked)
    assert alias_match(a, a, asked)
    assert alias_match(a.upper(), a, asked)


@given(TEXT)
def test_normal_form_is_a_fixed_point(text: str) -> None:
    assert normal(normal(text)) == normal(text)


def test_what_opens_a_continuation() -> None:
    assert begins_with(" Tokyo, a city of", "tokyo")
    assert not begins_with("Tokyoite", "Tokyo")
    assert not begins_with("印度尼西亚", "印度")
    assert begins_with("印度的首都", "印度")
    assert not begins_with("a city called Kyoto, not Tokyo", "Tokyo")
    assert first_sentence("Tokyo. It is large.") == "Tokyo."
    assert first_sentence("Tokyo\nQ: next") == "Tokyo"
    assert first_sentence("東京。大きい") == "東京。"
