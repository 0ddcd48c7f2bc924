"""What lies on disk: loading copies it, a run goes on as itself only, history may grow, damage is one sentence."""

import copy
import json
import shutil
from dataclasses import fields

from rlhf_lite import direct, models, rewards, rollouts, training
from rlhf_lite.direct import DirectConfig
from rlhf_lite.models import ModelError
from rlhf_lite.policies import PolicyError
from rlhf_lite.ppo import PPOConfig, PPORun
from rlhf_lite.rewards import RewardConfig
from rlhf_lite.steps import PolicyConfig
from rlhf_lite.training import (
    CHECKPOINT,
    LanguageConfig,
    LanguageRun,
    TrainingConfig,
    TrainingError,
)

import numpy as np
import pytest
import torch
from small_runs import DIALS, DOCUMENTS, PROMPTS, count_e, records, same, start, weights


def overwrite(path):
    """Write zeros over all but the header of a safetensors file, in place: what another copy does to it."""
    header = 8 + int.from_bytes(path.read_bytes()[:8], "little")
    with path.open("r+b") as file:
        file.seek(header)
        file.write(bytes(path.stat().st_size - header))


# ---- aliasing ----


def test_a_model_is_free_of_its_file(tiny, tmp_path):
    models.save(*tiny, tmp_path)
    model, _ = models.load(tmp_path)
    before = models.checksum(model)
    overwrite(tmp_path / "model.safetensors")
    assert models.checksum(model) == before
    assert models.checksum(models.load(tmp_path)[0]) != before, "the file did change"


def test_a_reward_model_is_free_of_its_file(tiny, tmp_path):
    models.save(rewards.new_reward_model(tiny[0]), tiny[1], tmp_path)
    model = rewards.load(tmp_path).model
    before = models.checksum(model)
    overwrite(tmp_path / "model.safetensors")
    assert models.checksum(model) == before


def test_tied_weights_stay_tied(tiny, tmp_path):
    models.save(*tiny, tmp_path)
    model, _ = models.load(tmp_path)
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_run_is_free_of_its_checkpoint(wordy, tmp_path):
    """Another checkpoint written over the file changes neither the weights nor Adam's state of a run that goes on."""
    first = start(wordy, wordy[0])
    first.advance()
    first.save(tmp_path)
    runs = [start(wordy, wordy[0]) for _ in range(2)]
    runs[0].load(tmp_path), runs[1].load(tmp_path)
    list(runs[0])
    overwrite(tmp_path / CHECKPOINT)
    list(runs[1])
    assert records(runs[0]) == records(runs[1]) and same(weights(runs[0]), weights(runs[1]))


# ---- resuming another run ----


def other_reference(wordy):
    model = copy.deepcopy(wordy[0])
    with torch.no_grad():
        model.lm_head.weight[3, 3] += 0.1
    return model


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": PROMPTS[:2]}, "its prompts is"),
        ({"prompts": PROMPTS[::-1]}, "its prompts is"),
        ({"lr": 1e-4}, "its lr is 0.003; expected 0.0001"),
        ({"seed": 1}, "its seed is 0; expected 1"),
        ({"kl_coef": 0.7}, "its kl_coef is 0.2; expected 0.7"),
        ({"steps": 5}, "its steps is 4; expected 5"),
        ({"critic": "head"}, "its critic is 'fit'; expected 'head'"),
        ({"reference": "other"}, "its reference is"),
        ({"ptx_coef": 1.0, "documents": DOCUMENTS}, "its ptx_coef is 0.0; expected 1.0"),
    ],
)
def test_another_run_does_not_go_on(wordy, tmp_path, change, words):
    first = start(wordy, wordy[0])
    first.advance()
    first.save(tmp_path)
    if "reference" in change:
        change = {"reference": other_reference(wordy)}
    stranger = start(wordy, **{"reference": wordy[0]} | change)
    before = weights(stranger)
    with pytest.raises(TrainingError) as caught:
        stranger.load(tmp_path)
    assert "holds another run" in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert stranger.step == 0 and same(weights(stranger), before)


def test_other_documents_do_not_go_on(wordy, tmp_path):
    start(wordy, documents=DOCUMENTS, ptx_coef=1.0).save(tmp_path)
    start(wordy, documents=(d for d in DOCUMENTS), ptx_coef=1.0).load(tmp_path)
    with pytest.raises(TrainingError, match="its documents is"):
        start(wordy, documents=DOCUMENTS[:3], ptx_coef=1.0).load(tmp_path)


def test_another_method_does_not_go_on(wordy, tmp_path):
    dials = {k: v for k, v in DIALS.items() if k != "value_lr"}
    parts = (None, wordy[1], PROMPTS, count_e, DirectConfig(**dials))
    direct.RLOORun(copy.deepcopy(wordy[0]), *parts).save(tmp_path)
    with pytest.raises(TrainingError, match="its method is 'RLOORun'; expected 'GRPORun'"):
        direct.GRPORun(copy.deepcopy(wordy[0]), *parts).load(tmp_path)


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"lr": 0.01}, {"steps": 9}, {"texts": ["Q:"] * 20}]
)
def test_another_language_run_does_not_go_on(tiny, tmp_path, change):
    texts = ["Ivo Vane was born in Oxbow."] * 20
    dials = {"batch": 4, "steps": 3, "bfloat16": False}

    def run(texts=texts, **more):
        torch.manual_seed(0)
        model = models.new_model(tiny[1], layers=1, width=32, heads=2, context=32)
        return LanguageRun(model, tiny[1], texts, LanguageConfig(**dials | more))

    run().save(tmp_path)
    run().load(tmp_path)
    with pytest.raises(TrainingError, match=f"its {next(iter(change))} is"):
        run(**change).load(tmp_path)


# ---- long histories ----


def test_the_header_of_a_checkpoint_does_not_grow(wordy, tmp_path):
    """safetensors refuses a header of 100 MB: some 2,000 steps of texts. History lies among the tensors."""
    run = start(wordy, wordy[0])
    run.advance()
    sizes = []
    for repeat in (1, 400):
        run.history = run.history[:1] * repeat
        run.save(tmp_path)
        sizes.append(int.from_bytes((tmp_path / CHECKPOINT).read_bytes()[:8], "little"))
    assert abs(sizes[1] - sizes[0]) < 100
    again = start(wordy, wordy[0])
    again.load(tmp_path)
    assert len(again.history) == 400 and again.history[-1] == run.history[0]


# ---- dials ----


@pytest.mark.parametrize(
    "kind", [PPOConfig, DirectConfig, PolicyConfig, LanguageConfig, RewardConfig, TrainingConfig]
)
def test_numpys_numbers_become_pythons(kind):
    plain = kind()
    kinds = {int: np.int64, float: np.float32, bool: np.bool_}
    given = {
        f.name: kinds[type(v)](v)
        for f in fields(kind)
        if type(v := getattr(plain, f.name)) in kinds
    }
    assert len(given) >= 8
    made = kind(**given)
    for name in given:
        assert type(getattr(made, name)) is type(getattr(plain, name)), name
        assert getattr(made, name) == pytest.approx(getattr(plain, name))
    json.dumps(vars(made))


def test_a_whole_number_is_a_number():
    made = PPOConfig(lr=1, kl_coef=0, target_kl=None)
    assert type(made.lr) is float and type(made.kl_coef) is float and made.target_kl is None


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"steps": 2.5}, "steps is 2.5; expected a whole number"),
        ({"steps": 40.0}, "steps is 40.0; expected a whole number"),
        ({"samples": True}, "samples is True; expected a whole number"),
        ({"seed": "0"}, "seed is '0'; expected a whole number"),
        ({"kl_coef": "0.1"}, "kl_coef is '0.1'; expected a finite number"),
        ({"kl_coef": float("inf")}, "kl_coef is inf; expected a finite number"),
        ({"lr": None}, "lr is None; expected a finite number"),
        ({"lr": torch.tensor(0.1)}, "expected a finite number"),
        ({"target_kl": "6"}, "target_kl is '6'; expected a finite number"),
        ({"bfloat16": 1}, "bfloat16 is 1; expected True or False"),
        ({"critic": 3}, "critic is 3; expected a word"),
    ],
)
def test_a_dial_of_the_wrong_type_is_refused_at_the_door(dials, words):
    with pytest.raises(PolicyError) as caught:
        PPOConfig(**dials)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_with_numpys_dials_is_saved_and_goes_on(wordy, tmp_path):
    dials = {
        "kl_coef": np.float32(0.25),
        "steps": np.int64(3),
        "seed": np.int32(2),
        "lr": np.float64(1e-3),
    }
    run = start(wordy, wordy[0], **dials)
    run.advance()
    run.kl_coef = np.float32(0.5)
    run.save(tmp_path)
    again = start(wordy, wordy[0], **dials)
    again.load(tmp_path)
    assert again.kl_coef == 0.5 and type(again.kl_coef) is float and len(list(again)) == 2


@pytest.mark.parametrize("coef", [None, "0.1", float("nan"), float("inf")])
def test_a_coefficient_that_is_no_number_is_refused(wordy, coef):
    run = start(wordy)
    with pytest.raises(PolicyError, match="expected a finite number"):
        run.kl_coef = coef
    assert run.kl_coef == 0.2


# ---- damage ----


def damage(path, how):
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    made = {
        "empty": b"",
        "four bytes": whole[:4],
        "half a header": whole[: header // 2],
        "no tensors": whole[:header],
        "half the tensors": whole[: (header + len(whole)) // 2],
        "one byte short": whole[:-1],
        "a byte more": whole + b"x",
        "garbled header": whole[:8] + b"#" * (header - 8) + whole[header:],
        "endless header": (2**62).to_bytes(8, "little") + whole[8:],
        "noise": bytes(range(256)) * 20,
        "another file": b'{"model": 1}\n',
    }
    path.write_bytes(made[how])


HOWS = (
    "empty", "four bytes", "half a header", "no tensors", "half the tensors", "one byte short", "a byte more",
    "garbled header", "endless header", "noise", "another file",
)  # fmt: skip


@pytest.fixture(scope="module")
def folders(tiny, tmp_path_factory):
    where = tmp_path_factory.mktemp("whole")
    models.save(*tiny, where / "model")
    models.save(rewards.new_reward_model(tiny[0]), tiny[1], where / "reward")
    return where


@pytest.mark.parametrize("how", HOWS)
def test_damaged_weights_are_one_sentence(folders, tmp_path, how):
    for name, load in (("model", models.load), ("reward", rewards.load)):
        folder = tmp_path / name
        shutil.copytree(folders / name, folder)
        load(folder)
        damage(folder / "model.safetensors", how)
        with pytest.raises(ModelError) as caught:
            load(folder)
        assert "damaged" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("how", HOWS)
def test_a_damaged_checkpoint_is_one_sentence(wordy, tmp_path, how):
    run = start(wordy, wordy[0])
    run.advance()
    run.save(tmp_path)
    damage(tmp_path / CHECKPOINT, how)
    before = weights(run)
    with pytest.raises(TrainingError) as caught:
        run.load(tmp_path)
    assert "is damaged" in str(caught.value) and "\n" not in str(caught.value)
    assert run.step == 1 and same(weights(run), before)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"null"])
def test_damaged_descriptions_are_one_sentence(folders, tmp_path, file, content):
    shutil.copytree(folders / "model", tmp_path / "model")
    (tmp_path / "model" / file).write_bytes(content)
    with pytest.raises(ModelError) as caught:
        models.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_a_language_model_is_no_reward_model(folders):
    """Its head would be drawn at random, and differ at each load."""
    with pytest.raises(ModelError, match=r"lacks the weights 'score\.weight'"):
        rewards.load(folders / "model")


# ---- other doors of a policy ----


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": "Ivo Vane"}, "prompts is one string"),
        ({"prompts": []}, "no prompts"),
        ({"count": 0}, "count is 0; expected at least one response"),
        ({"score": lambda texts: None}, "holds no numbers"),
        ({"score": lambda texts: [float("nan")] * len(texts)}, "is nan; expected a finite number"),
        ({"score": lambda texts: [1.0]}, "returned 1 numbers for 12 texts"),
    ],
)
def test_fresh_samples_need_good_parts(wordy, change, words):
    parts = {"prompts": PROMPTS, "count": 4, "score": count_e} | change
    with pytest.raises((PolicyError, ValueError)) as caught:
        rollouts.draw(wordy[0], wordy[0], wordy[1], **parts)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_ppo_documents_must_be_texts(wordy):
    with pytest.raises(ValueError, match="documents is one string"):
        PPORun(
            copy.deepcopy(wordy[0]),
            None,
            wordy[1],
            PROMPTS,
            count_e,
            PPOConfig(**DIALS, ptx_coef=1.0),
            "documents",
        )


def test_digests_tell_lists_apart():
    assert training.digest(["a", "b"]) != training.digest(["ab"]) != training.digest(["b", "a"])
