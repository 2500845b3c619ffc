"""Vectors for the Vendi score: against a plain mean over a text's own states, alone and in a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forgetbench.analysis.diversity import vendi_per_input, vendi_score
from forgetbench.analysis.outputs import Answered, Output
from forgetbench.behaviour.embedder import Embedder, find_embedder
from forgetbench.errors import UsageError
from tests.engines import tiny

pytestmark = pytest.mark.unit

TEXTS = ["The quick brown fox", "Tolmis", "", "The capital of Arvenia is Tolmis.", "Tolmis"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("embedder") / "model", "llama", bos=True)


@pytest.fixture
def embedder(folder: Path, tmp_path: Path) -> Embedder:
    return find_embedder("mine", str(folder), "suite.yaml: study: embedder", tmp_path)


def plain(folder: Path, text: str) -> Any:
    """One text alone, by transformers."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder)(**{k: ids[k] for k in ("input_ids", "attention_mask")})
    mean = states.last_hidden_state[0].mean(dim=0).numpy()
    return mean / np.linalg.norm(mean)


def test_each_text_has_the_vector_that_it_has_alone(embedder: Embedder, folder: Path) -> None:
    found = embedder(TEXTS)
    assert found.shape == (5, 64)
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(5))
    for text, vector in zip(TEXTS, found, strict=True):
        assert vector == pytest.approx(plain(folder, text), abs=1e-5)
    assert (found[1] == found[4]).all()
    embedder.close()
    assert (embedder(TEXTS) == found).all()


def test_a_bert_and_a_long_text(tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = tiny.make_tokenizer(False)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "hidden_size": 32}
    BertModel(BertConfig(vocab_size=400, max_position_embeddings=16, **shape)).save_pretrained(tmp_path / "bert")
    tokenizer.save_pretrained(tmp_path / "bert")
    embedder = find_embedder("bert", str(tmp_path / "bert"), "x", tmp_path / "cache")
    long, longer = embedder(["one two three four five " * 20, "one two three four five " * 40])
    assert long == pytest.approx(longer)  # what is beyond the context is not seen
    short, alone = embedder(["one", "two three four five six"])[0], embedder(["one"])[0]
    assert short == pytest.approx(alone, abs=1e-5)


def test_the_score_of_samples(embedder: Embedder) -> None:
    def outputs(*texts: str) -> tuple[Output, ...]:
        return tuple(Output(t, (1,)) for t in texts)

    items = [
        Answered("a", outputs("Tolmis", "Tolmis"), outputs("Tolmis", "12 apples")),
        Answered("b", outputs("left", "right"), outputs("left", "left")),
        Answered("c", outputs("x", "y"), outputs("x", "y")),
    ]
    found = vendi_per_input(items, embedder, embedder=embedder.identity)
    direct = [[vendi_score(embedder([o.text for o in a.side(s)])) for a in items] for s in ("base", "candidate")]
    assert (found.base, found.candidate) == (pytest.approx(np.mean(direct[0])), pytest.approx(np.mean(direct[1])))
    assert direct[0][0] == pytest.approx(1.0)
    assert direct[1][0] > 1.01
    assert embedder.identity in found.note
    assert vendi_per_input(items, embedder, most=2).n == 2


def test_its_identity_is_that_of_its_weights(folder: Path, tmp_path: Path) -> None:
    again = find_embedder("other", str(folder), "x", tmp_path).identity
    assert again.removeprefix("other") == find_embedder("mine", str(folder), "x", tmp_path).identity.removeprefix(
        "mine"
    )
    another = tiny.save(tmp_path / "another", "llama", bos=True, seed=1)
    assert find_embedder("other", str(another), "x", tmp_path).identity != again


def test_what_is_no_embedder(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, problem in ((tmp_path / "nowhere", "no such folder"), (tmp_path / "empty", "holds no config.json")):
        with pytest.raises(UsageError, match=problem):
            find_embedder("mine", str(path), "suite.yaml: study: embedder", tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tiny.edit_json(broken / "config.json", model_type="no-such-kind")
    embedder = find_embedder("mine", str(broken), "suite.yaml: study: embedder", tmp_path)
    with pytest.raises(UsageError, match="cannot be loaded") as caught:
        embedder(["a"])
    assert "\n" not in str(caught.value)
