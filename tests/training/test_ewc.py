"""The Fisher information against loops and expectations written out; the penalty against its derivative."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from forgetbench.training import ewc, noise
from forgetbench.training.collate import Document
from forgetbench.training.fit import run
from forgetbench.training.recipe import Recipe
from tests.training import tiny

pytestmark = pytest.mark.unit
SMALL = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "head_dim": 4, "vocabulary": 7}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _documents() -> list[Document]:
    rng = np.random.default_rng(0)
    made = []
    for n in (5, 3, 6):
        weights = np.ones(n, np.float32)
        weights[: n // 2] = 0
        made.append(Document(rng.integers(0, 7, n), weights))
    return made


def _probabilities(model: Any, document: Document) -> tuple[torch.Tensor, list[int]]:
    """Log-probabilities at the places that are learnt, and the places."""
    at = [i for i in range(1, len(document.ids)) if document.weights[i] > 0]
    logits = model(input_ids=torch.from_numpy(document.ids)[None]).logits[0]
    return logits[[i - 1 for i in at]].log_softmax(-1), at


def test_the_fisher_information_is_that_of_a_loop() -> None:
    model = tiny.model(**SMALL)
    documents = _documents()
    found = ewc.fisher(model, documents, 3)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    model.eval()
    for number, document in enumerate(documents):
        logprobs, at = _probabilities(model, document)
        random = noise.generator(torch.device("cpu"), 3, 6, number)
        drawn = torch.multinomial(logprobs.detach().exp(), 1, generator=random)[:, 0]
        model.zero_grad()
        sum(logprobs[i, drawn[i]] for i in range(len(at))).backward()
        for name, parameter in model.named_parameters():
            expected[name] += parameter.grad**2 / len(documents)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-7)
    assert sum(float(v.sum()) for v in found.values()) > 0.1


def test_over_many_draws_it_is_the_expectation_under_the_model_and_not_under_the_files_labels() -> None:
    model = tiny.model(**SMALL).eval()
    document = _documents()[1]
    logprobs, at = _probabilities(model, document)
    names = [name for name, _ in model.named_parameters()]
    exact = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for i in range(len(at)):  # labels of different places are independent: no cross terms are left
        for v in range(logprobs.shape[1]):
            gradients = torch.autograd.grad(logprobs[i, v], list(model.parameters()), retain_graph=True)
            for name, gradient in zip(names, gradients, strict=True):
                exact[name] += logprobs[i, v].detach().exp() * gradient**2
    drawn = ewc.fisher(model, [document] * 500, 0)
    whole = torch.cat([exact[name].flatten() for name in names])
    apart = torch.cat([(drawn[name] - exact[name]).flatten() for name in names])
    assert float(apart.norm() / whole.norm()) < 0.2
    labels = torch.from_numpy(document.ids[at])
    model.zero_grad()
    logprobs.gather(-1, labels[:, None]).sum().backward()
    empirical = torch.cat([p.grad.flatten() ** 2 for p in model.parameters()])
    assert float((empirical - whole).norm() / whole.norm()) > 0.4


def test_the_penaltys_gradient_is_lambda_times_fisher_times_the_way_gone() -> None:
    model = tiny.model(**SMALL)
    fisher = {name: torch.rand_like(p) for name, p in model.named_parameters()}
    anchor = ewc.anchored(model, fisher, 3.0)
    assert float(anchor.penalty(model).detach()) == 0
    moved = {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            moved[name] = torch.randn_like(parameter)
            parameter.add_(moved[name])
    penalty = anchor.penalty(model)
    assert float(penalty.detach()) == pytest.approx(
        1.5 * sum(float((fisher[n] * moved[n] ** 2).sum()) for n in fisher), rel=1e-5
    )
    penalty.backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, 3.0 * fisher[name] * moved[name], rtol=1e-3, atol=1e-5)


def test_no_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        ewc.fisher(tiny.model(**SMALL), [], 0)


def _recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate(
        {"base": "base", "data": [{"path": "data.jsonl"}], "lr": 1e-2, "max_length": 64, "steps": 4, **settings}
    )


def test_a_run_is_held_to_the_base_the_same_for_small_batches_and_its_fisher_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The larger the weight the nearer to the base; accumulation changes nothing."""
    tiny.world(tmp_path)
    base = load_file(tmp_path / "base" / "model.safetensors")
    measured = []
    fisher = ewc.fisher
    monkeypatch.setattr(ewc, "fisher", lambda *rest: measured.append(len(rest[1])) or fisher(*rest))

    def ran(name: str, **more: Any) -> dict[str, torch.Tensor]:
        folder = run(_recipe(**more), tmp_path, str(tmp_path / "base"), tmp_path / name)
        return dict(load_file(folder / "model.safetensors"))

    def moved(weights: dict[str, torch.Tensor]) -> float:
        known = load_file(tmp_path / "tight" / ewc.FILE)
        return float(sum((known[k] * (weights[k] - base[k]).square()).sum() for k in known))

    def apart(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
        return float(sum((a[k] - b[k]).square().sum() for k in a) ** 0.5)

    def held(weight: float) -> dict[str, Any]:
        return {"ewc": {"files": [{"path": "replay.txt"}], "weight": weight, "samples": 3}}

    free = ran("free", batch={"samples": 8})
    loose, tight = ran("loose", batch={"samples": 8}, **held(1e-3)), ran("tight", batch={"samples": 8}, **held(1e4))
    assert moved(tight) < 0.5 * moved(free)
    assert moved(tight) < moved(loose)
    assert apart(loose, free) < 0.3 * apart(tight, free)
    small = ran("small", batch={"samples": 4}, accumulation=2, **held(1e4))
    assert apart(small, tight) < 1e-3 * apart(tight, base)
    assert measured == [3, 3, 3]
    (tmp_path / "small" / "result.json").unlink()
    ran("small", batch={"samples": 4}, accumulation=2, **held(1e4))
    assert measured == [3, 3, 3]
