"""The cards in the folders that ship: their YAML parses, their numbers are those of the records."""

import json
import re
import tomllib

from rlhf_lite import models, records
from rlhf_lite.runtime import DATA, ROOT

import pytest
import yaml
from transformers import AutoModelForSequenceClassification, pipeline

CARDS = {name: DATA / name / "README.md" for name in ("models/base", "models/reward", "feedback")}


def parts(name):
    """The YAML of a card as a dict, and its text."""
    text = CARDS[name].read_text(encoding="utf-8")
    _, front, body = re.split(r"^---$", text, maxsplit=2, flags=re.MULTILINE)
    return yaml.safe_load(front), body


def rows(name):
    """{first cell: the other cells} of all tables of a card, without their heads."""
    found = [
        line.strip("| ").split(" | ") for line in parts(name)[1].split("\n") if line.startswith("|")
    ]
    return {
        r[0]: [c.strip("|").strip() for c in r[1:]]
        for r in found
        if r[0] not in ("what", "file") and "---" not in r[0]
    }


def made(name):
    return json.loads((CARDS[name].parent / "made.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", CARDS)
def test_the_front_matter_is_what_the_hub_reads(name):
    front, body = parts(name)
    assert front["license"] == "mit" and front["language"] == "en" and "rlhf" in front["tags"]
    task = {"models/base": "text-generation", "models/reward": "text-classification"}.get(name)
    assert front.get("pipeline_tag") == task
    assert body.strip().startswith("# ")


@pytest.mark.parametrize("name", CARDS)
def test_links_and_commands_lead_somewhere(name):
    _, body = parts(name)
    links = re.findall(r"\]\(([^)]+)\)", body)
    assert links and all((CARDS[name].parent / link).exists() for link in links)
    for command in re.findall(r"python (data/\S+\.py)", body):
        assert (ROOT / command).exists()


def test_numbers_of_the_base():
    m, config = made("models/base"), models.load(DATA / "models" / "base")[0].config
    base = records.read("base").results["arms"]["base"]["0"]
    loss, samples = base["loss"]["all documents"], base["samples"]
    count = models.load(DATA / "models" / "base")[0].num_parameters()
    share = [f"{samples['claims'][k]:.0%}" for k in ("true", "false", "unsupported")]
    assert rows("models/base") == {
        "parameters": [f"{count:,}"],
        "layers, width, heads": [f"{config.n_layer}, {config.n_embd}, {config.n_head}"],
        "tokens in the vocabulary, longest text": [f"{config.vocab_size:,}, {config.n_positions}"],
        "documents it was trained on, passes": [f"{m['documents']:,}, {m['passes']}"],
        "tokens it has read, all passes": [f"{m['tokens']:,}"],
        "steps, documents a step, learning rate": [f"{m['steps']:,}, {m['batch']}, {m['lr']}"],
        "seed": [str(m["seed"])],
        "loss on new documents of all kinds [nats a document]": [f"{loss['loss']:.2f}", f"{loss['floor']:.2f}"],
        "loss on new documents of all kinds [nats a token]": [f"{loss['loss_token']:.3f}", f"{loss['floor_token']:.3f}"],
        "characters off the grammar, sampled documents": [f"{samples['off_grammar']:.1%}", "0%"],
        "documents that the world could not have written": [f"{samples['impossible']:.0%}", "0%"],
        "claims that are true, false, unsupported": [", ".join(share), "not recorded"],
    }  # fmt: skip


def test_numbers_of_the_reward_model():
    m, h = made("models/reward"), made("models/reward")["held out"]
    model = AutoModelForSequenceClassification.from_pretrained(DATA / "models" / "reward")
    assert rows("models/reward") == {
        "parameters": [f"{model.num_parameters():,}"],
        "comparisons, all by the scholar": [f"{m['labels']:,}"],
        "how sharply the scholar chooses (rationality)": [f"{m['rationality']:.2f}"],
        "score before normalising: mean, standard deviation": [f"{m['mean']:.2f}, {m['sd']:.2f}"],
        "texts that it was normalised on": [f"{m['normalised on']:,}"],
        "seconds of training": [f"{m['seconds']:.0f}"],
        "seed": [str(m["seed"])],
        "accuracy against one label": [f"{h['accuracy']:.1%}", f"{h['ceiling']:.1%}"],
        "rank correlation with the gold utility, per prompt": [f"{h['rank']:.2f}", "1"],
        "points gained by the best of 16": [f"{h['best16']:.2f}", f"{h['oracle16']:.2f}"],
    }  # fmt: skip


def lines_of(file):
    text = (DATA / "feedback" / file).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.strip().split("\n")]


def test_numbers_and_fields_of_the_feedback():
    front, body = parts("feedback")
    files = [c["data_files"] for c in front["configs"]]
    assert sorted(files) == sorted(p.name for p in (DATA / "feedback").glob("*.jsonl"))
    table = rows("feedback")
    assert sorted(table) == sorted(f"`{f}`" for f in files)
    common = {"kind", "prompt", "annotator", "world", "seed", "seconds"}
    for file in files:
        found = lines_of(file)
        kind, lines, prompts, people, fields = table[f"`{file}`"]
        assert {r["kind"] for r in found} == {kind}
        assert f"{len(found):,}" == lines
        assert str(len({r["prompt"] for r in found})) == prompts
        assert str(len({r["annotator"] for r in found})) == people
        assert all(set(r) == common | set(re.findall(r"`(\w+)`", fields)) for r in found)
        assert {r["world"] for r in found} <= set(re.findall(r"\b[0-9a-f]{12}\b", body))


def test_what_the_card_says_of_the_shared_pairs():
    _, body = parts("feedback")
    pairs = {(r["prompt"], *sorted((r["chosen"], r["rejected"]))) for r in lines_of("shared.jsonl")}
    assert f"{len(pairs)} pairs" in " ".join(body.split())
    people = tomllib.loads((DATA / "feedback" / "annotators.toml").read_text(encoding="utf-8"))
    assert f"{people['agreement']:.1%}" in body
    assert sum(isinstance(p, dict) for p in people.values()) == 5 and "all five people" in body


def test_the_folder_works_in_a_plain_pipeline():
    write = pipeline("text-generation", model=str(DATA / "models" / "base"))
    prompt = "<|endoftext|>Hadrian Reed"
    said = write(prompt, max_new_tokens=12, do_sample=False)[0]["generated_text"]
    assert "Hadrian Reed" in said and len(said) > len(prompt)
