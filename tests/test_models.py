"""Models are plain Hugging Face folders; what cannot be loaded is said in one sentence."""

import json
import os
import subprocess
import sys
import time

from rlhf_lite import models
from rlhf_lite.models import ModelError
from rlhf_lite.runtime import DATA, ROOT
from rlhf_lite.sampling import sample
from rlhf_lite.training import CHECKPOINT

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory, world):
    """A folder as the hub has for gpt2: vocab.json and merges.txt, no pad token, GPT-2's shape but thin."""
    import random

    folder, rng = tmp_path_factory.mktemp("gpt2"), random.Random(0)
    bpe = ByteLevelBPETokenizer()
    texts = [world.sample(rng).text for _ in range(200)]
    bpe.train_from_iterator(
        texts, vocab_size=500, special_tokens=["<|endoftext|>"], show_progress=False
    )
    bpe.save_model(str(folder))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}),
        encoding="utf-8",
    )
    config = GPT2Config(
        vocab_size=500, n_embd=48, n_layer=12, n_head=12, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


def test_save_and_load_are_inverse(tiny, tmp_path):
    model, tokenizer = tiny
    models.save(model, tokenizer, tmp_path)
    again, words = models.load(tmp_path)
    text = 'Ivo Vane was born in Oxbow.\nQ: "ze ra doktel"?'
    assert (
        words(text)["input_ids"] == tokenizer(text)["input_ids"]
        and words.decode(words(text)["input_ids"]) == text
    )
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters()))
    assert not list(tmp_path.glob("*.bin")) and (tmp_path / "model.safetensors").exists()


def test_the_shipped_model_needs_no_code_of_ours():
    folder = DATA / "models" / "base"
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert 2e6 <= models.count_parameters(model) <= 4e6
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert abs(len(tokenizer) - 2000) < 200
    assert sum(f.stat().st_size for f in folder.iterdir()) <= 10e6


def test_gpt2_gets_a_pad_token_of_its_own(gpt2_folder):
    model, tokenizer = models.load(gpt2_folder)
    assert model.config.n_layer == 12 and model.config.n_positions == 1024
    assert tokenizer.pad_token_id == 500 and tokenizer.eos_token_id == 0
    assert model.get_input_embeddings().num_embeddings == 501
    drawn = sample(model, tokenizer, ["Q:", "The hero Ivo Vane"], max_new_tokens=5)
    assert all(t.startswith(p) for t, p in zip(drawn.texts, drawn.prompts))


def test_dropout_is_off(gpt2_folder):
    model, _ = models.load(gpt2_folder)
    model.train()
    tokens = torch.tensor([[0, 5, 6, 7]])
    assert torch.equal(model(tokens).logits, model(tokens).logits)


def test_the_training_command_goes_on_from_gpt2_and_from_a_checkpoint(gpt2_folder, tmp_path):
    """The documented command, with a folder of GPT-2's shape, killed after a checkpoint and started again."""
    command = [sys.executable, "data/make_base.py", "--model", str(gpt2_folder), "--documents", "96",
               "--batch", "8", "--every", "4", "--out", str(tmp_path / "mine")]  # fmt: skip
    started = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    checkpoint = tmp_path / "mine-training" / CHECKPOINT
    while started.poll() is None and not checkpoint.exists():
        time.sleep(0.02)
    started.kill()
    started.communicate()
    if not (tmp_path / "mine").exists():
        assert checkpoint.exists()
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
        assert done.returncode == 0, done.stderr[-2000:]
        assert "going on from step" in done.stdout
        assert "floor" in done.stderr and "tokens/s" in done.stderr
    model, tokenizer = models.load(tmp_path / "mine")
    assert model.config.n_layer == 12 and len(tokenizer) == 501
    made = json.loads((tmp_path / "mine" / "made.json").read_text(encoding="utf-8"))
    assert made["steps"] == 24 and made["model"] == str(gpt2_folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "gpt2-with-wings"], "no such folder, and no hub in reach"),
        (["--leave-out", "opera"], "cannot leave out ['opera']"),
    ],
)
def test_the_training_command_refuses_in_one_sentence(arguments, message, tmp_path):
    command = [sys.executable, "data/make_base.py", *arguments, "--out", str(tmp_path / "mine")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", env=environment)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().split("\n")) == 1


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def empty(folder):
    return folder


def no_weights(folder):
    (folder / "config.json").write_text('{"model_type": "gpt2"}', encoding="utf-8")
    return folder


def missing_folder(folder):
    return folder / "nowhere"


def unknown_name(folder):
    return "gpt2-with-wings"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (empty, "no model in the folder"),
        (no_weights, "the folder is damaged"),
        (missing_folder, "no folder"),
        (unknown_name, "no such folder, and no hub in reach"),
    ],
)
def test_what_cannot_be_loaded_is_said_in_one_sentence(tmp_path, offline, make, message):
    with pytest.raises(ModelError) as caught:
        models.load(make(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_garbled_weights_are_named(tiny, tmp_path):
    models.save(*tiny, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(os.urandom(1000))
    with pytest.raises(ModelError, match="the folder is damaged"):
        models.load(tmp_path)


def test_a_tokenizer_that_does_not_fit_is_named(tiny, world, tmp_path):
    larger = models.new_tokenizer([p.name for p in world.people] * 3, vocab_size=700)
    models.save(tiny[0], larger, tmp_path)
    assert len(larger) > 600
    with pytest.raises(ModelError, match="expected a tokenizer that was saved with the model"):
        models.load(tmp_path)


def test_first_layers_are_those_of_the_base(base):
    base, tokenizer = base
    short = models.first_layers(base, 1)
    tokens = torch.tensor([tokenizer("Ivo Vane was born in Oxbow.")["input_ids"]])
    with torch.no_grad():
        after_one = base.transformer(tokens, output_hidden_states=True).hidden_states[1]
        ours = short.transformer(tokens).last_hidden_state
        torch.testing.assert_close(ours, base.transformer.ln_f(after_one))
    assert models.first_layers(base, base.config.n_layer).num_parameters() == base.num_parameters()
    assert short.num_parameters() < base.num_parameters()
    with pytest.raises(ModelError, match="layers is 9; expected 1 to"):
        models.first_layers(base, 9)
