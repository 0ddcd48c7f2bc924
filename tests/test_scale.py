"""TRL trains the shipped base on two processes, and what it makes opens in the course.

TRL is no requirement of the course, so these tests build an environment for it once, in the user's
cache, and use it again; RLHF_SCALE_PYTHON names one that is there already.
"""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

from rlhf_lite import launching, models, records
from rlhf_lite.experiments import Lab, arms_of, load
from rlhf_lite.launching import LaunchError, launch
from rlhf_lite.records import Record
from rlhf_lite.runtime import DATA, ROOT

import pytest
import torch
import yaml

TRAIN = DATA / "scale" / "train.py"
SMALL = ["--samples", "16", "--tokens", "8", "--group", "2"]
TOLERANCE = 1e-5  # nats a token, of loss, between one process and two, in float32


def environment(folder):
    """Return the Python of an environment with the extra, which borrows torch from this one."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    asked = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    home = Path(subprocess.check_output(asked, encoding="utf-8").strip())
    (home / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    if launching.lack(str(python)):
        wanted = [f"{n}=={v}" if v else n for n, v in launching.pins().items()]
        subprocess.run([python, "-m", "pip", "install", "-q", *wanted], check=True)
        launching.installed.cache_clear()
    return str(python)


@pytest.fixture(scope="session")
def python():
    try:
        return launching.scale_python()
    except LaunchError:
        pass
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    try:
        return environment(cache / "rlhf_lite" / f"scale-3.{sys.version_info.minor}")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"TRL's packages cannot be installed here ({error})")


def train(python, processes, *words):
    """Run the script; return its events."""
    lines = list(launch(TRAIN, words, processes, python, threads=1))
    return [line for line in lines if isinstance(line, dict)]


# ---- with TRL ----


def test_grpo_on_two_processes_opens_in_the_course(python, tmp_path, base):
    said = train(python, 2, "grpo", "--steps", "2", *SMALL, "--out", tmp_path / "policy")
    assert said[0] == {"processes": 2} and said[-1] == {"folder": str(tmp_path / "policy")}
    assert [s["step"] for s in said if "loss" in s] == [1, 2]
    policy, tokenizer = models.load(tmp_path / "policy")
    assert len(tokenizer) == len(base[1]) and policy.config.use_cache
    moved = [not torch.equal(a, b) for a, b in zip(policy.parameters(), base[0].parameters())]
    assert all(moved)


def test_equal_batches_give_equal_losses_on_one_process_and_on_two(python, tmp_path):
    """The same rows in each step, the same updates, so the same losses and weights."""
    losses, folders = [], [tmp_path / "one", tmp_path / "two"]
    for processes, folder in zip((1, 2), folders):
        said = train(python, processes, "sft", "--steps", "3", "--samples", "16", "--out", folder)
        losses.append([s["loss"] for s in said if "loss" in s])
    assert losses[0] == pytest.approx(losses[1], abs=TOLERANCE)
    assert len({round(x, 2) for x in losses[0]}) > 1  # another batch, another loss
    one, two = (models.load(folder)[0] for folder in folders)
    for a, b in zip(one.parameters(), two.parameters()):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)


def test_a_run_goes_on_from_its_checkpoint(python, tmp_path):
    words = ["dpo", "--samples", "16", "--save_every", "1", "--out", tmp_path]
    before = train(python, 1, *words, "--steps", "1")
    checkpoint = next(s["checkpoint"] for s in before if "checkpoint" in s)
    after = train(python, 1, *words, "--steps", "2", "--resume", checkpoint)
    assert [s["step"] for s in after if "loss" in s] == [2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["grpo", "--set", "no_such=1"], "GRPOConfig refuses an option: .*no_such"),
        (["sft", "--samples", "7", "--updates", "2"], "7 texts a step do not divide among 2 upd"),
        (["rloo", "--model", "no/such/folder"], "cannot load the model 'no/such/folder'"),
    ],
)
def test_bad_input_is_one_sentence(python, tmp_path, words, message):
    with pytest.raises(LaunchError, match=message):
        train(python, 1, *words, "--out", tmp_path / "out")


def test_the_configurations_load_in_the_libraries(python):
    """What a GPU machine needs is validated by the classes that will read it."""
    code = (
        "import sys, yaml\n"
        "from accelerate.commands.config.config_args import load_config_from_file\n"
        "from trl import GRPOConfig\n"
        "one, eight, vllm = sys.argv[1:]\n"
        "for path in (one, eight):\n"
        "    found = load_config_from_file(path)\n"
        "    print(found.num_processes, found.distributed_type.value, found.mixed_precision)\n"
        "options = yaml.safe_load(open(vllm, encoding='utf-8'))\n"
        "print(GRPOConfig(output_dir='out', use_cpu=True, bf16=False, **options).use_vllm)\n"
    )
    paths = [DATA / "scale" / f"{name}.yaml" for name in ("one_gpu", "fsdp_8", "vllm")]
    said = subprocess.check_output([python, "-c", code, *paths], encoding="utf-8")
    assert said.strip().split("\n")[-3:] == ["1 NO bf16", "8 FSDP bf16", "True"]


READ = """
import sys
sys.path.insert(0, sys.argv[1])
sys.argv = ["train.py", "rloo", "--samples", "4", "--out", sys.argv[2], *sys.argv[3:]]
import train, torch
from rlhf_lite import sampling
trainer = train.trainer_of(train.parsed())
tokenizer = trainer.processing_class
heads = [[0, *tokenizer(p)["input_ids"]] for p in ("Ivo Vane", "Wilhelmina Featherstonehaugh")]
width = max(map(len, heads))
tail = tokenizer(" was born in Oxbow.")["input_ids"]
tokens = torch.tensor([[1] * (width - len(h)) + h + tail for h in heads])
mask = torch.tensor([[0] * (width - len(h)) + [1] * (len(h) + len(tail)) for h in heads])
with torch.no_grad():
    theirs = trainer._get_per_token_logps_and_entropies(trainer.model, tokens, mask, len(tail))[0]
    ours = sampling.token_logprobs(trainer.model, tokens, mask)[:, -len(tail):]
gap = (theirs - ours).abs().amax(1).tolist()
print(width - len(heads[0]), *gap)
"""


@pytest.mark.parametrize(("words", "mended"), [([], True), (["--as_it_comes"], False)])
def test_padding_on_the_left_moves_no_position(python, tmp_path, words, mended):
    """What TRL's trainer says of a response is what the course says of it; left alone it is not."""
    command = [python, "-c", READ, TRAIN.parent, tmp_path, *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"}
    said = subprocess.check_output(command, encoding="utf-8", env=env).strip().split("\n")[-1]
    pads, padded, whole = map(float, said.split())
    assert pads >= 1 and whole < 1e-3
    assert padded < 1e-3 if mended else padded > 1e-2


# ---- without TRL ----


@pytest.mark.parametrize("stage", load("gpt2").STAGES)
def test_every_stage_runs_at_124_million(tmp_path, monkeypatch, stage):
    """One small step from GPT-2's configuration: nothing in the chain depends on the size."""
    gpt2 = load("gpt2")
    for name, value in (("STEPS", 1), ("BATCH", 2), ("RESPONSES", 4)):
        monkeypatch.setattr(gpt2, name, value)
    lab = Lab(tmp_path)
    model = gpt2.begin(lab, "124M", 0)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    [step] = {"pretraining": gpt2.pretraining, "reward model": gpt2.reward_model,
              "PPO": gpt2.policy}[stage](lab, model, 0)  # fmt: skip
    assert step.seconds > 0


def test_the_configurations_are_yaml_with_the_fields_that_matter():
    found = {
        p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in TRAIN.parent.glob("*.yaml")
    }
    assert found.keys() == {"one_gpu", "fsdp_8", "vllm"}
    assert (found["one_gpu"]["num_processes"], found["fsdp_8"]["num_processes"]) == (1, 8)
    assert found["fsdp_8"]["fsdp_config"]["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    assert found["vllm"]["use_vllm"] is True


def test_the_script_without_trl_says_what_to_install(tmp_path):
    if importlib.util.find_spec("trl"):
        pytest.skip("TRL is installed in the environment of the tests themselves")
    command = [sys.executable, TRAIN, "grpo", "--out", tmp_path]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT)
    assert done.returncode and done.stderr.startswith("train: trl is not installed; expected")
    assert launching.INSTALL in done.stderr and "\n" not in done.stderr.strip()


def test_a_model_of_another_tokenizer_is_refused(tmp_path, tiny):
    """Its texts would not begin with the token that ours begin with."""
    spec = importlib.util.spec_from_file_location("train", TRAIN)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    models.save(*tiny, tmp_path)
    assert script.opened("grpo", str(tmp_path))[1].padding_side == "left"
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings |= {"eos_token": "<|pad|>", "pad_token": "<|endoftext|>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(models.ModelError, match=r"ends texts with '<.pad.>'.*; expected a GPT-2's"):
        script.opened("grpo", str(tmp_path))


def test_pairs_are_labelled_by_the_score(tmp_path, monkeypatch):
    """The offline arm reads as many pairs as the budget buys, and the better one wins more often."""
    lab = Lab(tmp_path)
    drawn = [f"text {n}" for n in range(90)]
    scores = torch.linspace(-3, 3, 90).repeat(84, 1)
    fake = type("Drawn", (), {"prompts": lab.prompts, "scores": scores,
                              "texts": [[f"{q} {t}" for t in drawn] for q in lab.prompts]})  # fmt: skip
    monkeypatch.setattr(Lab, "draw", lambda *a, **k: fake)
    rows = [
        json.loads(x)
        for x in load("trainers").pairs(lab, 0).read_text(encoding="utf-8").split("\n")
        if x
    ]
    assert len(rows) == 3780 and all(r["chosen"] != r["rejected"] for r in rows)
    # Neighbours are 6 / 89 apart: the second wins sigma(0.067) = 51.7% of 3,780, with an sd of 0.8%.
    won = [int(r["chosen"].split()[-1]) % 2 for r in rows]
    assert 0.48 < sum(won) / len(won) < 0.56


def made_up(**ends):
    """A record whose named arms end at (objective, KL) and all others at the base."""
    arms = {name: {"0": {"objective": 0.0, "kl": 0.0}} for name in arms_of(load("trainers"))}
    for name, (objective, kl) in ends.items():
        arms[name] = {"0": {"objective": objective, "kl": kl}}
    return Record("made up", {"arms": arms}, {})


def test_shares_are_compared_the_right_way_round():
    trainers, methods = load("trainers"), load("methods")
    best = records.read("ppo")["best"]["0.54"]
    record = made_up(**{"GRPO, defaults": (best["objective"], 1.5), "RLOO, defaults": (0.3, 0.4)})
    found = {name: float(value(record)[0]) for name, value in trainers.STATISTICS.items()
             if "ours" not in name}  # fmt: skip
    grpo, rloo, rest = 1.0, methods.share(0.3), methods.share(0.0)
    assert found == pytest.approx({
        "share, GRPO - RLOO": grpo - rloo,
        "share, GRPO, k3 uncorrected - corrected": rest - grpo,
        "share, GRPO, KL in the reward - in the loss": rest - grpo,
        "share, RLOO, 4 updates a batch - 1": rest - rloo,
        "share, RLOO, TRL's positions - mended": rest - rloo,
        "share, GRPO undivided, 3/4 beta - beta": 0.0,
        "KL, GRPO - RLOO": 1.1, "KL, GRPO undivided, 3/4 beta - RLOO": -0.4,
    })  # fmt: skip


def test_every_arm_has_the_budget_of_the_methods():
    trainers, methods = load("trainers"), load("methods")
    budget = methods.DIALS["steps"] * methods.DIALS["samples"]
    for arm in arms_of(trainers).values():
        dials = trainers.DIALS | arm
        assert dials["steps"] * dials["samples"] == budget
        assert dials["lr"] == methods.DIALS["lr"]
    others = {n: a["kl_coef"] for n, a in arms_of(trainers).items() if "kl_coef" in a}
    assert trainers.DIALS["kl_coef"] == methods.COEF
    assert others == {"GRPO, undivided, 3/4 beta": 0.75 * methods.COEF}
