"""Samples to ids and masks; every bad line is named before the first step."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgetbench.errors import ForgetbenchError, ManyUsageErrors, UsageError
from forgetbench.training.check.rows import row_of
from forgetbench.training.recipe import Recipe
from forgetbench.training.tokenise import Reading, Sample, Source, read_samples, token_ids, weigh
from tests.training import tiny

pytestmark = pytest.mark.unit
U, A = {"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Ja, né."}


def _read(folder: Path, rows: list[Any], template: str | None = tiny.CHAT_TEMPLATE, **settings: Any) -> list[Sample]:
    source = {k: settings.pop(k) for k in ("style", "task_type", "weight") if k in settings}
    file = tiny.write_jsonl(folder / "d.jsonl", rows)
    reading = Reading(**{"max_length": 64, **settings})
    return read_samples([Source(file, **source)], tiny.tokenizer(template), reading)


def _learnt(sample: Sample) -> str:
    return str(tiny.tokenizer().decode(sample.ids[sample.mask > 0]))


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, tiny.CHATML])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [U, A]},
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "Ja, né."}]},
        {"prompt": "Hi?", "answer": "Ja, né."},
        {"instruction": "Hi?", "input": "", "output": "Ja, né."},
        {"messages": '[{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Ja, né."}]'},
    ],
)
def test_every_layout_learns_the_answer_and_its_end(tmp_path: Path, row: Any, template: str) -> None:
    (sample,) = _read(tmp_path, [row], template)
    assert _learnt(sample).strip() == "Ja, né.<|end|>"
    assert sample.where == f"{tmp_path / 'd.jsonl'}:1"


def test_the_ids_are_those_of_the_tokenizer_on_the_rendered_chat(tmp_path: Path) -> None:
    (sample,) = _read(tmp_path, [{"messages": [U, A]}])
    tokenizer = tiny.tokenizer()
    expected = tokenizer.apply_chat_template([U, A], return_dict=True, return_assistant_tokens_mask=True)
    assert sample.ids.tolist() == expected["input_ids"]
    assert sample.mask.tolist() == expected["assistant_masks"]


@pytest.mark.parametrize("template", [tiny.CHAT_TEMPLATE, tiny.CHATML, tiny.CHATML.replace("\n", " ")])
def test_offsets_without_blanks_move_no_answer(tmp_path: Path, template: str) -> None:
    """`trim_offsets` puts the start of a space at its end: where the header ends with one, it would be learnt."""
    from tokenizers.processors import ByteLevel

    file = tiny.write_jsonl(tmp_path / "d.jsonl", [{"messages": [U, {**A, "content": " eins  zwei\n\ndrei "}, U, A]}])
    masks = []
    for trim in (False, True):
        tokenizer = tiny.tokenizer(template)
        tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=trim)
        (sample,) = read_samples([Source(file)], tokenizer, Reading(max_length=99))
        masks.append(sample.mask.tolist())
        assert tokenizer.backend_tokenizer.post_processor.trim_offsets is trim  # it is the user's: left as it was
    assert masks[0] == masks[1]


def test_all_turns_or_the_last(tmp_path: Path) -> None:
    rows = [{"messages": [U, {**A, "content": "eins"}, U, {**A, "content": "zwei"}]}]
    assert _learnt(_read(tmp_path, rows)[0]) == " eins<|end|> zwei<|end|>"
    assert _learnt(_read(tmp_path, rows, on="last")[0]) == " zwei<|end|>"


def test_raw_pairs_and_texts(tmp_path: Path) -> None:
    rows = [{"prompt": "Q:", "answer": " A"}, {"text": "abc"}]
    pair, text = _read(tmp_path, rows, style="raw")
    assert _learnt(pair) == " A<|end|>"
    assert tiny.tokenizer().decode(pair.ids) == "Q: A<|end|>"
    assert tiny.tokenizer().decode(text.ids) == "abc<|end|>"
    assert text.mask.tolist() == [0, 1, 1, 1]
    assert _learnt(_read(tmp_path, rows[:1], None)[0]) == " A<|end|>"


def test_long_texts_are_cut_and_nothing_of_them_is_lost(tmp_path: Path) -> None:
    pieces = _read(tmp_path, [{"text": "x" * 150}])
    assert [len(p.ids) for p in pieces] == [64, 64, 23]
    assert all(p.mask.tolist() == [0.0] + [1.0] * (len(p.ids) - 1) for p in pieces)
    assert [len(p.ids) for p in _read(tmp_path, [{"text": "x" * 128}])] == [64, 64]  # the end alone predicts nothing


def test_weights_and_task_types(tmp_path: Path) -> None:
    rows = [{"text": "abc", "weight": 3, "task_type": "a/b"}, {"text": "abc"}]
    samples = _read(tmp_path, rows, weight=0.5, task_type="c")
    assert [(s.factor, s.task_type) for s in samples] == [(1.5, "a/b"), (0.5, "c")]


def test_a_pair_has_all_that_stands_beside_it(tmp_path: Path) -> None:
    rows = [
        {"question": "Hi?", "input": "there", "answer": "A", "response": "B", "output": 5},
        {"prompt": "Hi?", "context": "there", "system": "Be kind", "chosen": "A", "rejected": "B"},
    ]
    for sample, before in zip(_read(tmp_path, rows), ("", "<|system|> Be kind<|end|>"), strict=True):
        assert tiny.tokenizer().decode(sample.ids).startswith(f"{before}<|user|> Hi?\nthere<|end|>")
        assert _learnt(sample) == " A<|end|>"
    raw = _read(tmp_path, rows, style="raw")
    assert [tiny.tokenizer().decode(s.ids) for s in raw] == ["Hi?\nthereA<|end|>", "Be kind\nHi?\nthereA<|end|>"]


def test_a_system_message_beside_a_chat_goes_before_it(tmp_path: Path) -> None:
    """ShareGPT's layout; read past it, a fine-tune would learn its answers without what it is told at inference."""
    rows = [
        {"conversations": [{"from": "human", "value": "Hi?"}, {"from": "gpt", "value": "A"}], "system": "Be kind"},
        {"messages": [{"role": "system", "content": "Be kind"}, U, {**A, "content": "A"}], "system": "Be kind"},
        {"messages": [U, {**A, "content": "A"}], "system": ""},
    ]
    said = [tiny.tokenizer().decode(sample.ids) for sample in _read(tmp_path, rows)]
    assert [text.startswith("<|system|> Be kind<|end|><|user|>") for text in said] == [True, True, False]
    assert [text.count("Be kind") for text in said] == [1, 1, 0]
    turns = [[t.role for t in row_of(row, "d:1").turns] for row in rows]
    assert turns == [["system", "user", "assistant"]] * 2 + [["user", "assistant"]]


def test_what_is_checked_is_what_is_learnt(tmp_path: Path) -> None:
    keys: list[tuple[str, Any]] = [
        *((k, f"<{k}>") for k in ("prompt", "question", "instruction")),
        *((k, f"<{k}>") for k in ("answer", "response", "completion", "output", "chosen")),
        *((k, f"<{k}>") for k in ("input", "context", "system", "text")),
    ]
    rng = random.Random(0)
    rows: list[dict[str, Any]] = []
    while len(rows) < 60:
        row = dict(rng.sample(keys, rng.randint(1, 8)))
        asks = bool(row.keys() & {"prompt", "question", "instruction"})
        answers = bool(row.keys() & {"answer", "response", "completion", "output", "chosen"})
        if (asks and answers) or (not asks and "text" in row):
            rows.append(row)
    samples = _read(tmp_path, rows, style="raw", max_length=256)
    for sample, row in zip(samples, rows, strict=True):
        read = row_of(row, "d:1")
        assert _learnt(sample) == f"{read.text[1:] if read.plain else read.answer}<|end|>"
        assert (
            tiny.tokenizer().decode(sample.ids)
            == f"{read.text if read.plain else read.prompt + str(read.answer)}<|end|>"
        )


def test_weights_of_csv_cells(tmp_path: Path) -> None:
    file = tmp_path / "w.csv"
    file.write_text("prompt,answer,weight\nq,a,2\nq,a,\nq,a, 0.5\n")
    assert [s.factor for s in read_samples([Source(file)], tiny.tokenizer(), Reading(64))] == [2, 1, 0.5]


BAD: list[tuple[Any, str]] = [
    ({"messages": [U]}, "has no assistant turn"),
    ({"messages": [U, {**A, "content": " "}]}, "turn 2 is an empty answer"),
    ({"messages": [{"role": "robot", "content": "x"}, A]}, "turn 1 has the unknown role 'robot'"),
    ({"messages": [U, {"role": "assistant"}]}, "turn 2 has no text"),
    ({"messages": "no JSON"}, "not JSON"),
    ({"messages": 7}, "is not a list"),
    ({"messages": [7]}, "turn 1 is not an object"),
    ({"messages": [U, {**A, "content": "x" * 99}]}, "tokens, the limit is 64"),
    ({"prompt": "Hi?", "answer": ""}, "is an empty answer"),
    ({"prompt": "Hi?"}, "has `prompt` and no answer"),
    ({"prompt": 7, "answer": "x"}, "`prompt` is not a text"),
    ({"text": " "}, "no field to train on"),
    ({"other": 1}, "no field to train on: other"),
    ({"text": "abc", "weight": 0}, "`weight` is 0"),
    ({"text": "abc", "weight": True}, "`weight` is True"),
    ({"text": "abc", "weight": "-1"}, "`weight` is '-1'"),
    ({"text": "abc", "weight": "nan"}, "`weight` is 'nan'"),
    ({"text": "abc", "weight": "two"}, "`weight` is 'two'"),
    ({"text": "abc", "weight": 10**400}, "`weight` is 1000"),
    ({"prompt": "Hi?", "input": 5, "answer": "x"}, "`input` is not a text"),
    ({"prompt": "Hi?", "system": ["x"], "answer": "x"}, "`system` is not a text"),
    ({"prompt": "Hi?", "output": 5}, "`output` is not a text"),
    ({"messages": [U, A], "system": ["x"]}, "`system` is not a text"),
    (
        {"messages": [{"role": "system", "content": "a"}, U, A], "system": "b"},
        "has `system` and another system turn; keep one of the two",
    ),
    ({"text": "abc", "task_type": "a/b/c"}, "one or two levels"),
    ({"text": "abc", "task_type": 7}, "write a text"),
    ([1], "is not an object"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_line_is_named_with_file_line_and_cure(tmp_path: Path, row: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        _read(tmp_path, [{"text": "good"}, row])
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'd.jsonl'}:2: ")
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_bad_lines_are_named_at_once_and_many_are_cut(tmp_path: Path) -> None:
    with pytest.raises(ManyUsageErrors) as caught:
        _read(tmp_path, [row for row, _ in BAD[:5]])
    assert len(caught.value.errors) == 5
    with pytest.raises(ManyUsageErrors, match=f"{2 * len(BAD) - 20} more mistakes"):
        _read(tmp_path, [row for row, _ in BAD] * 2)


def test_task_types_are_asked_for_only_where_needed(tmp_path: Path) -> None:
    assert _read(tmp_path, [{"text": "abc"}])[0].task_type is None
    with pytest.raises(UsageError, match=r"d\.jsonl:1: has no task_type"):
        _read(tmp_path, [{"text": "abc"}], need_task_type=True)


def test_broken_lines_templates_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "b.jsonl").write_text('{"text": "abc"}\n{"text": \n')
    with pytest.raises(UsageError, match=r"b\.jsonl:2: not JSON"):
        read_samples([Source(tmp_path / "b.jsonl")], tiny.tokenizer(), Reading(64))
    with pytest.raises(UsageError, match=r"d\.jsonl:1: the chat template fails"):
        _read(tmp_path, [{"messages": [U, A]}], "{% for %}")
    with pytest.raises(UsageError, match=r"d\.jsonl:1: is a chat, and the tokenizer has no chat template"):
        _read(tmp_path, [{"messages": [U, A]}], None)
    with pytest.raises(ForgetbenchError, match="holds no sample"):
        _read(tmp_path, [])
    with pytest.raises(ForgetbenchError, match="cannot be read"):
        read_samples([Source(tmp_path / "none.jsonl")], tiny.tokenizer(), Reading(64))


@pytest.mark.parametrize(
    "row",
    [
        r'{"text": "a\ud800b"}',
        r'{"prompt": "q\udc00", "answer": "a"}',
        r'{"prompt": "q", "answer": "a\ud83d"}',
        r'{"messages": [{"role": "user", "content": "x\ude00"}, {"role": "assistant", "content": "a"}]}',
    ],
)
@pytest.mark.parametrize("style", ["auto", "raw"])
def test_half_a_character_is_named_with_file_and_line(tmp_path: Path, row: str, style: Any) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"text": "whole \\ud83d\\ude00"}\n' + row + "\n")
    with pytest.raises(UsageError, match=r"d\.jsonl:2: holds '\\ud.{3}', half of a character; mend"):
        read_samples([Source(file, style=style)], tiny.tokenizer(), Reading(64))


def _recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"base": "b", "data": [{"path": "d"}], "lr": 1e-3, "steps": 1, **settings})


def _sample(mask: list[float], task_type: str | None = None) -> Sample:
    return Sample(np.arange(6, 6 + len(mask)), np.asarray(mask, np.float32), task_type, 2.0, "d:1")


def test_weights_multiply_and_channels_are_task_types() -> None:
    samples = [_sample([0, 1, 1], "a/b"), _sample([0, 1, 1, 1, 1], "c"), _sample([0, 1])]
    loss = {"reduction": "per_sample", "task_weights": {"a": 3}}
    documents, channels = weigh(samples, _recipe(loss=loss), tiny.tokenizer(), None, 1, ())
    assert channels == ("(none)", "a/b", "c")
    assert [float(d.weights.sum()) for d in documents] == pytest.approx([6, 2, 2])
    assert [channels[d.channel] for d in documents] == ["a/b", "c", "(none)"]


def test_a_weight_of_a_task_type_that_no_sample_has_is_refused() -> None:
    samples = [_sample([0, 1], "support/route"), _sample([0, 1])]
    for key in ("suport", "support/rout", "support/routes", "rou", "(none)"):
        recipe = _recipe(loss={"task_weights": {"support": 2, key: 5}})
        with pytest.raises(UsageError) as caught:
            weigh(samples, recipe, tiny.tokenizer(), None, 1, ())
        told = f"loss.task_weights: {key}: no sample has this task_type; the samples have: (none), support/route"
        assert str(caught.value) == told


def test_token_weights_name_single_tokens() -> None:
    assert token_ids({"<|end|>": 0.5}, tiny.tokenizer()) == {2: 0.5}
    with pytest.raises(UsageError, match="is 2 tokens"):
        token_ids({"ab": 0.5}, tiny.tokenizer())


def test_surprising_tokens_are_masked_by_what_the_base_thinks_of_them() -> None:
    from forgetbench.training.collate import Document, collate
    from forgetbench.training.reference import document_nll

    model = tiny.model()
    samples = [_sample([0] + [1] * n) for n in (5, 9, 3)]
    nlls = [next(iter(document_nll(model, [collate([Document(s.ids, s.mask)], [(0,)], 1)]))) for s in samples[:2]]
    threshold = float(np.exp(np.median(np.concatenate([n[1:] for n in nlls])))) * 1.0001
    documents, _ = weigh(samples, _recipe(stm_threshold=threshold), tiny.tokenizer(), model, 1, stm=range(2))
    for document, nll in zip(documents, nlls, strict=False):
        assert ((document.weights[1:] > 0) == (nll[1:] <= np.log(threshold))).all()
    assert documents[2].weights.tolist() == [0, 2, 2, 2]  # not among those of `stm`
    with pytest.raises(UsageError, match="no token has a weight"):
        weigh(samples[:2], _recipe(stm_threshold=1.0001), tiny.tokenizer(), model, 1, stm=range(2))
