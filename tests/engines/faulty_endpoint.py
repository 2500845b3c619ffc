"""An OpenAI-compatible server made of the standard library, whose answers are a function of the prompt and which
can be told to fail in every way that a real one does.

`faults(body, attempt)` names what happens to the attempt-th request (from 1) with that body, "" for nothing. The
words of a text are its tokens.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Faults = Callable[[dict[str, Any], int], str]
KINDS = ("500", "503", "429", "reset", "truncate", "malformed", "html", "stall", "double", "pieces twice", "foreign")
STALL = 1.2
"""Longer than the time-out that tests set."""


def words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+", text)


def logprob(before: str, word: str) -> float:
    """Of a word after a text."""
    digest = hashlib.sha256(f"{before}|{word}".encode()).digest()
    return -(int.from_bytes(digest[:4], "big") % 9000) / 1000 - 0.01


def said(prompt: str, seed: int | None = None) -> str:
    """What the server answers: a number, as a function of prompt and seed."""
    return f" it is {hashlib.sha256(f'{prompt}|{seed}'.encode()).digest()[0] % 3}"


def as_text(body: dict[str, Any]) -> str:
    """A request's prompt; for messages their contents."""
    if "messages" in body:
        return "\n".join(m["content"] for m in body["messages"])
    return str(body["prompt"])


class Endpoint(ThreadingHTTPServer):
    """Counts what it is asked in `asked` (bodies, in order) and knows what it answered in full in `answered`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        faults: Faults = lambda body, attempt: "",
        *,
        key: str | None = None,
        models: tuple[str, ...] = ("m",),
        echo: bool = True,
        text: bool = True,
        chat: bool = True,
        delay: float = 0.0,
        owner: str = "somebody",
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults, self.key, self.models, self.owner = faults, key, models, owner
        self.echo, self.text, self.chat, self.delay = echo, text, chat, delay
        self.asked: list[dict[str, Any]] = []
        self.answered: list[dict[str, Any]] = []
        self.suffered: Counter[str] = Counter()
        self.under_way = self.most_under_way = 0
        self.lock = threading.Lock()
        self._attempts: Counter[str] = Counter()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def fault(self, body: dict[str, Any]) -> str:
        name = json.dumps(body, sort_keys=True)
        with self.lock:
            self.asked.append(body)
            self._attempts[name] += 1
            fault = self.faults(body, self._attempts[name])
            self.suffered[fault] += 1
            return fault

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is part of the game."""


@contextlib.contextmanager
def running(*args: Any, **kwargs: Any) -> Iterator[Endpoint]:
    server = Endpoint(*args, **kwargs)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Endpoint

    def log_message(self, *args: Any) -> None:
        """Silent."""

    def do_GET(self) -> None:
        if self._authorised():
            self._json(200, {"data": [{"id": m, "owned_by": self.server.owner} for m in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._authorised():
            return
        with self.server.lock:
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            self._served(body)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _served(self, body: dict[str, Any]) -> None:
        chat = self.path.endswith("/chat/completions")
        if body.get("model") not in self.server.models:
            return self._error(404, "there is no such model")
        if not (self.server.chat if chat else self.server.text):
            return self._error(400, "this model is not served here")
        fault = self.server.fault(body)
        time.sleep(self.server.delay)
        if fault in ("500", "503"):
            return self._error(int(fault), f"overloaded, you sent {self.headers.get('Authorization')}")
        if fault == "429":
            return self._error(429, "slow down", {"Retry-After": "0.05"})
        if fault == "401":
            return self._error(401, f"bad key {self.headers.get('Authorization')}")
        if fault == "400":
            return self._error(400, "This model's maximum context length is 8 tokens")
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return None
        if fault == "stall":
            time.sleep(STALL)
        blob = self._streamed(body, chat, fault) if body.get("stream") else self._whole(body, fault)
        kind = "text/event-stream" if body.get("stream") else "application/json"
        if fault == "malformed":
            blob = blob[: len(blob) // 2]
        if fault == "html":
            blob, kind = b"<html>502 Bad Gateway</html>", "text/html"
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(blob)}\r\n\r\n".encode()
        if fault == "truncate":
            blob = blob[: len(blob) // 2]
            self.close_connection = True
        self.wfile.write((head + blob) * (2 if fault == "double" else 1))
        self.wfile.flush()
        if fault in ("", "double"):
            with self.server.lock:
                self.server.answered.append(body)
        return None

    def _whole(self, body: dict[str, Any], fault: str) -> bytes:
        prompt = as_text(body)
        if body.get("echo") and self.server.echo:
            text = f"another {prompt}" if fault == "foreign" else prompt
            tokens = words(text)
            values: list[float | None] = [None]
            values += [logprob("".join(tokens[:i]), t) for i, t in enumerate(tokens)][1:]
            top = [None, *({t: v} for t, v in zip(tokens[1:], values[1:], strict=True))]
        else:
            text = said(prompt, body.get("seed"))
            tokens = words(text)
            values = [logprob("".join(tokens[:i]), t) for i, t in enumerate(tokens)]
            top = [{t: v} for t, v in zip(tokens, values, strict=True)]
        offsets = [len("".join(tokens[:i])) for i in range(len(tokens))]
        logprobs = {"tokens": tokens, "token_logprobs": values, "top_logprobs": top, "text_offset": offsets}
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
        if "logprobs" in body:
            choice["logprobs"] = logprobs
        usage = {"prompt_tokens": len(words(prompt)), "completion_tokens": 0 if body.get("echo") else len(tokens)}
        return json.dumps({"choices": [choice], "usage": usage}).encode()

    def _streamed(self, body: dict[str, Any], chat: bool, fault: str) -> bytes:
        tokens = words(said(as_text(body), body.get("seed")))
        pieces: list[dict[str, Any]] = []
        for place, token in enumerate(tokens):
            value = logprob("".join(tokens[:place]), token)
            reason = "stop" if place + 1 == len(tokens) else None
            entry: dict[str, Any] = {"index": 0, "finish_reason": reason}
            if chat:
                entry |= {"delta": {"content": token}, "logprobs": {"content": [{"token": token, "logprob": value}]}}
            else:
                entry |= {"text": token, "logprobs": {"tokens": [token], "token_logprobs": [value]}}
            pieces += [{"choices": [entry]}] * (2 if fault == "pieces twice" else 1)
        usage = {"prompt_tokens": len(words(as_text(body))), "completion_tokens": len(tokens)}
        pieces.append({"choices": [], "usage": usage})
        return "".join(f"data: {json.dumps(p)}\n\n" for p in pieces).encode() + b"data: [DONE]\n\n"

    def _authorised(self) -> bool:
        if self.server.key is None or self.headers.get("Authorization") == f"Bearer {self.server.key}":
            return True
        self._error(401, f"wrong key: {self.headers.get('Authorization')}")
        return False

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        self._json(status, {"error": {"message": message}}, headers)

    def _json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        blob = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(blob)))
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(blob)
