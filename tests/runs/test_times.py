"""A record keeps the time of its response."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forgetbench.runs.assemble import Asked, records_of
from forgetbench.types import Decode
from tests.runs.fakes import FakeTask, answer, job, plan

pytestmark = pytest.mark.unit


def asked(task: FakeTask, decode: Decode | None = None) -> Asked:
    made = plan([job(task, limit=1, decode=decode or Decode())])
    (request,) = made.requests
    return Asked(task.load()[0], made.origins[request.request_id][0], request)


def test_times_of_a_response_go_into_each_of_its_records() -> None:
    one = asked(FakeTask("dice", 1), Decode(temperature=0.7, n=3))
    response = replace(answer(one.request), first_token_seconds=0.25, seconds=1.5)
    records = records_of(one, FakeTask("dice", 1), response)
    assert [(r.first_token_seconds, r.seconds) for r in records] == [(0.25, 1.5)] * 3
    ranked = asked(FakeTask("pick", 1, "rank"))
    (record,) = records_of(ranked, FakeTask("pick", 1, "rank"), replace(answer(ranked.request), seconds=0.5))
    assert (record.first_token_seconds, record.seconds, record.n_output_tokens) == (None, 0.5, None)


def test_a_failed_response_has_no_time() -> None:
    one = asked(FakeTask("add", 1))
    failed = replace(answer(one.request), first_token_seconds=0.25, seconds=1.5, error="out of memory")
    (record,) = records_of(one, FakeTask("add", 1), failed)
    assert (record.outcome, record.first_token_seconds, record.seconds) == ("infra_error", None, None)
