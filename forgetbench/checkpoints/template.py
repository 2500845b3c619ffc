"""Chat templates: where a checkpoint's template comes from, and how it renders.

Rendering equals `tokenizer.apply_chat_template(..., tokenize=False)` of transformers (tests hold it to that),
but needs neither the tokenizer nor torch, so that planning and the hit path stay light. One thing differs on
purpose: `strftime_now` answers a fixed date. A template that prints today's date would give the same item
another prompt tomorrow, and a resumed or compared run would no longer be about the same prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from forgetbench.checkpoints.files import one_line
from forgetbench.errors import UsageError
from forgetbench.types import Message

FIXED_DATE = datetime(2024, 7, 26)
"""What `strftime_now` shows. It is the date that Llama 3's own template falls back to."""
_MARK = "\x02forgetbench-continues-here\x03 "
"""Put after the text to be continued, then cut at. Its last character is a space so that a template which
trims message contents is noticed."""


def find_template(folder: Path, tokenizer_config: Mapping[str, Any]) -> str | None:
    """The default template of a tokenizer folder: chat_template.jinja, else tokenizer_config.json; else
    None."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read(file)
    value = tokenizer_config.get("chat_template")
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        named = {str(e.get("name")): e.get("template") for e in value if isinstance(e, dict)}
        default = named.get("default")
        if isinstance(default, str):
            return default
        raise UsageError(
            str(folder / "tokenizer_config.json"),
            f"has {len(named)} chat templates and none called 'default'",
            "set `chat_template:` to the file of the one to use",
        )
    return None


def template_from_spec(value: str) -> str:
    """A template given in the config: the path of a file, or the template itself."""
    looks_inline = "{{" in value or "{%" in value
    if not looks_inline:
        file = Path(value).expanduser()
        if not file.is_file():
            raise UsageError(
                f"chat_template: {value[:200]}",
                "is neither a file nor a Jinja template",
                "give the path of a .jinja file, or the template text",
            )
        return _read(file)
    return value


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(str(file), f"cannot be read ({error})", "save it as UTF-8 text") from None


@lru_cache(maxsize=64)
def _compile(template: str) -> Any:
    import jinja2
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class GenerationBlock(Extension):
        """`{% generation %}...{% endgeneration %}` marks assistant text for training masks: here, its
        body."""

        tags = {"generation"}  # noqa: RUF012  (jinja2 reads a plain set)

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    def fail(message: str) -> None:
        raise jinja2.TemplateError(message)

    def to_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        # jinja2's own filter escapes HTML characters, which a prompt must not have.
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = fail
    environment.globals["strftime_now"] = FIXED_DATE.strftime
    return environment.from_string(template)


def check_template(template: str, where: str) -> None:
    """Compile a template, so that a broken one is reported before anything runs."""
    import jinja2

    try:
        _compile(template)
    except jinja2.TemplateSyntaxError as error:
        raise UsageError(
            where, f"chat template, line {error.lineno}: {error.message}", "mend the template's syntax"
        ) from None


def render(
    template: str,
    messages: Sequence[Message],
    special_tokens: Mapping[str, str],
    *,
    prefill: str = "",
    where: str = "chat template",
) -> str:
    """Render a conversation, ready for the assistant's answer.

    With `prefill` the assistant's turn is already begun with that text and left open. A template that refuses
    a system message is rendered without it, as lm-eval does. Raises UsageError when the template fails.
    """
    import jinja2

    compiled = _compile(template)
    conversation = [{"role": m.role, "content": m.content} for m in messages]
    if prefill:
        conversation.append({"role": "assistant", "content": prefill + _MARK})

    def attempt(turns: list[dict[str, str]]) -> str:
        return str(
            compiled.render(
                messages=turns,
                tools=None,
                documents=None,
                add_generation_prompt=not prefill,
                **special_tokens,
            )
        )

    try:
        try:
            text = attempt(conversation)
        except jinja2.TemplateError:
            without = [turn for turn in conversation if turn["role"] != "system"]
            if len(without) == len(conversation):
                raise
            text = attempt(without)
    except Exception as error:  # a template is foreign code: whatever it raises is the user's to see in one line
        raise UsageError(
            where,
            f"the chat template fails on roles {[t['role'] for t in conversation]}: {one_line(error)}",
            "use a template that takes these messages",
        ) from None
    return _cut_open(text, prefill, where) if prefill else text


def _cut_open(text: str, prefill: str, where: str) -> str:
    """Cut the rendered text right after the prefill, dropping what closes the assistant's turn."""
    place = text.rfind(_MARK.rstrip())
    if place < 0 or prefill.strip() not in text:
        raise UsageError(
            where, "the template drops the assistant's last message", "use one that keeps it, or no prefill"
        )
    kept = text[:place]
    trims = text[place : place + len(_MARK)] != _MARK
    return kept.rstrip() if trims else kept
