"""Chat templates render as transformers renders them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pytest

from forgetbench.checkpoints import ModelSpec, resolve
from forgetbench.checkpoints.template import check_template, find_template, render
from forgetbench.errors import UsageError
from forgetbench.types import Message
from tests.engines import tiny

TURNS = (
    Message("system", "You are terse. "),
    Message("user", "  What is <2> & 'two'?\n"),
    Message("assistant", "2"),
    Message("user", "And 东京?"),
)
CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
LLAMA_LIKE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}{%- set date_string = strftime_now("%d %b %Y") %}{%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|system|>\\n" + system_message + "<|end|>" }}
{%- for message in messages %}
    {%- if message.role == 'assistant' and loop.last and not add_generation_prompt %}
        {{- '<|assistant|>\\n' + message['content'] | trim + '<|end|>' }}
    {%- else %}
        {{- '<|' + message['role'] + '|>\\n'+ message['content'] | trim + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>\\n' }}
{%- endif %}
"""
JSONISH = (
    "{% for m in messages %}{{ m | tojson }}{{ {'b': 1, 'a': '<é>'} | tojson(indent=2) }}{% if loop.index > 2 %}"
    "{% break %}{% endif %}\n{% endfor %}{% if tools %}T{% endif %}{% if documents %}D{% endif %}{{ eos_token }}"
)
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
NAMESPACED = (
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ ns.n }}{{ m.role[:1] }}:"
    "{% generation %}{{ m.content }}{% endgeneration %}\n{% endfor %}"
)
TEMPLATES = {
    "tiny": tiny.CHAT_TEMPLATE,
    "chatml": CHATML,
    "llama": LLAMA_LIKE,
    "json": JSONISH,
    "namespace": NAMESPACED,
}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.make_tokenizer(bos=True)


def as_dicts(messages: tuple[Message, ...]) -> list[dict[str, str]]:
    return [{"role": m.role, "content": m.content} for m in messages]


@pytest.fixture
def fixed_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let transformers print the date that we print: the only thing in which we differ on purpose."""
    from transformers.utils import chat_template_utils

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime(2024, 7, 26)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


@pytest.mark.parity
@pytest.mark.usefixtures("fixed_clock")
@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_equal_to_transformers(tokenizer: Any, name: str, count: int) -> None:
    template, turns = TEMPLATES[name], TURNS[-count:]
    expected = tokenizer.apply_chat_template(
        as_dicts(turns), chat_template=template, tokenize=False, add_generation_prompt=True
    )
    assert render(template, turns, tokenizer.special_tokens_map) == expected


@pytest.mark.parity
@pytest.mark.usefixtures("fixed_clock")
@pytest.mark.parametrize("name", ["tiny", "chatml", "llama", "namespace"])
@pytest.mark.parametrize("prefill", ["The answer is", "The answer is ", "```python\n", " x"])
def test_prefill_equals_continue_final_message(tokenizer: Any, name: str, prefill: str) -> None:
    template = TEMPLATES[name]
    expected = tokenizer.apply_chat_template(
        [*as_dicts(TURNS), {"role": "assistant", "content": prefill}],
        chat_template=template,
        tokenize=False,
        continue_final_message=True,
    )
    got = render(template, TURNS, tokenizer.special_tokens_map, prefill=prefill)
    assert got == expected
    assert got.endswith((prefill, prefill.strip()))


@pytest.mark.unit
def test_a_template_that_refuses_system_messages_gets_none(tokenizer: Any) -> None:
    with pytest.raises(jinja2.TemplateError):
        tokenizer.apply_chat_template(as_dicts(TURNS), chat_template=STRICT, tokenize=False)
    assert render(STRICT, TURNS, {}) == render(CHATML, TURNS[1:], {})


@pytest.mark.unit
def test_what_a_template_raises_is_one_line() -> None:
    template = "{{ raise_exception('roles\nmust alternate') }}"
    with pytest.raises(UsageError, match=r"models.m: the chat template fails .*roles must alternate") as caught:
        render(template, TURNS, {}, where="models.m")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="fails on roles"):
        render("{{ messages[9].content.x.y }}", TURNS, {})


@pytest.mark.unit
def test_templates_run_in_a_sandbox() -> None:
    with pytest.raises(UsageError, match="unsafe"):
        render("{{ messages.__class__.__mro__[-1].__subclasses__() }}", TURNS, {})


@pytest.mark.unit
def test_a_template_that_drops_the_prefill() -> None:
    with pytest.raises(UsageError, match="drops the assistant's last message"):
        render("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", TURNS, {}, prefill="x")


@pytest.mark.unit
def test_the_date_does_not_move() -> None:
    assert render("{{ strftime_now('%Y-%m-%d') }}", TURNS, {}) == "2024-07-26"


@pytest.mark.unit
def test_syntax_errors_name_the_line() -> None:
    with pytest.raises(UsageError, match=r"x.jinja: chat template, line 2: "):
        check_template("ok\n{% if %}", "x.jinja")


@pytest.mark.unit
def test_where_templates_come_from(tmp_path: Path) -> None:
    assert find_template(tmp_path, {}) is None
    assert find_template(tmp_path, {"chat_template": "one"}) == "one"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert find_template(tmp_path, {"chat_template": named}) == "d"
    with pytest.raises(UsageError, match="none called 'default'"):
        find_template(tmp_path, {"chat_template": named[:1]})
    (tmp_path / "chat_template.jinja").write_text("file")
    assert find_template(tmp_path, {"chat_template": "one"}) == "file"


@pytest.mark.parity
def test_a_resolved_checkpoint_renders_as_its_tokenizer_does(folder: Path, tmp_path: Path) -> None:
    checkpoint = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    loaded = checkpoint.tokenizer()
    expected = loaded.apply_chat_template(as_dicts(TURNS), tokenize=False, add_generation_prompt=True)
    assert checkpoint.render_chat(TURNS) == expected
    assert expected.startswith("<s><|system|>")
    assert checkpoint.special_tokens == loaded.special_tokens_map


@pytest.mark.unit
def test_templates_from_the_spec(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[-1].content }}>")
    digests = set()
    for given in (str(file), "{{ messages[-1].content }}>"):
        checkpoint = resolve(ModelSpec("m", str(folder), chat_template=given), cache_dir=tmp_path)
        assert checkpoint.render_chat(TURNS) == "And 东京?>"
        digests.add(checkpoint.digest)
    assert len(digests) == 1
    for given, words in (("nowhere.jinja", "neither a file nor"), ("{% if %}", "line 1")):
        with pytest.raises(UsageError, match=words):
            resolve(ModelSpec("m", str(folder), chat_template=given), cache_dir=tmp_path)


@pytest.mark.unit
def test_no_template(folder: Path, tmp_path: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    checkpoint = resolve(ModelSpec("m", str(folder)), cache_dir=tmp_path)
    assert not checkpoint.has_chat_template
    assert checkpoint.parts["template"] == "none"
    with pytest.raises(UsageError, match=r"models.m: has no chat template"):
        checkpoint.render_chat(TURNS)
