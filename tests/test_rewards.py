"""Five losses are the likelihoods they claim to be, and one model learns from each of them."""

import itertools
import json
import math
import random

from rlhf_lite import models, rewards, runtime
from rlhf_lite.annotators import Annotator
from rlhf_lite.checks import TextError
from rlhf_lite.feedback import ASPECTS, FeedbackError
from rlhf_lite.models import ModelError
from rlhf_lite.rewards import RewardConfig, RewardRun, examples
from rlhf_lite.runtime import DATA
from rlhf_lite.training import TrainingError

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

SHIPPED = DATA / "models" / "reward"
TEXTS = [
    "Ivo Vane was born in Oxbow.",
    "Ivo Vane",
    "The hero Norbert Pell once put the town hall on wheels.\nOn the table lay onion soup.",
    "Q:",
]
COMMON = {"annotator": "ada", "world": "0123456789ab", "seed": 0, "seconds": None}


@pytest.fixture(scope="module")
def reward(tiny):
    """A one-head and an eight-head reward model on the tiny base, with its tokenizer."""
    base, tokenizer = tiny
    return rewards.new_reward_model(base), rewards.new_reward_model(base, 8, seed=1), tokenizer


@pytest.fixture
def fresh(tiny):
    """A one-head model that a test may change."""
    return rewards.new_reward_model(tiny[0]), tiny[1]


@torch.no_grad()
def alone(model, tokenizer, text):
    """The heads after the last token of one text, without batch, padding or helper."""
    tokens = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"]]])
    return model.score(model.transformer(input_ids=tokens).last_hidden_state)[0, -1]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def doubles(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- the losses ----


def test_preference_loss_equals_a_loop():
    chosen, rejected = doubles(2, 9) * 3
    naive = [-math.log(sigmoid(float(a - b))) for a, b in zip(chosen, rejected)]
    loss = rewards.preference_loss(chosen, rejected)
    assert float(loss) == pytest.approx(sum(naive) / 9)
    assert float(rewards.preference_loss(chosen + 17, rejected + 17)) == pytest.approx(float(loss))
    assert float(rewards.preference_loss(chosen, chosen)) == pytest.approx(math.log(2))
    assert float(rewards.preference_loss(rejected, chosen)) != pytest.approx(float(loss), abs=0.1)


def test_preference_loss_survives_the_tails():
    far = torch.tensor([1e4], requires_grad=True)
    loss = rewards.preference_loss(-far, far)
    loss.backward()
    assert loss.item() == pytest.approx(2e4) and far.grad.item() == pytest.approx(2)


@pytest.mark.parametrize("log_tie", [-3.0, math.log(0.25), 1.5])
def test_three_outcomes_of_a_comparison_sum_to_one(log_tie):
    for a, b in doubles(20, 2) * 4:
        tied = torch.tensor([True])
        args = [(a[None], b[None], ~tied), (b[None], a[None], ~tied), (a[None], b[None], tied)]
        probs = [math.exp(-float(rewards.preference_loss(*x, torch.tensor(log_tie)))) for x in args]
        assert sum(probs) == pytest.approx(1)
        assert probs[0] / probs[1] == pytest.approx(math.exp(a - b))
        assert probs[2] ** 2 / (probs[0] * probs[1]) == pytest.approx(math.exp(2 * log_tie))


def judge(rationality):
    anchors = np.array([-2.0, -1.1, -0.3, 0.2, 1.4, 1.45])
    return Annotator("x", "", np.zeros(8), {}, rationality=rationality, anchors=anchors)


def test_the_loss_with_ties_is_the_annotators_own():
    person = judge(1.3)
    for a, b in itertools.product((-2.0, 0.1, 3.0), repeat=2):
        score = 1.3 * torch.tensor([[a], [b]], dtype=torch.float64)
        for number, tie in enumerate((False, None, True)):
            if tie is not None:
                loss = rewards.preference_loss(*score, torch.tensor([tie]), math.log(person.tie))
                probs = person.preference_probs(a, b)[number]
                assert float(loss) == pytest.approx(-math.log(probs))


def test_without_attraction_ties_leave_bradley_terry():
    chosen, rejected = doubles(2, 9, seed=1)
    none = torch.zeros(9, dtype=torch.bool)
    davidson = rewards.preference_loss(chosen, rejected, none, torch.tensor(-math.inf))
    assert float(davidson) == pytest.approx(float(rewards.preference_loss(chosen, rejected)))


def test_rating_loss_is_the_annotators_own():
    person = judge(1.3)
    thresholds = torch.tensor(1.3 * person.anchors)
    for utility, rating in itertools.product((-3.0, 0.0, 0.7, 4.0), range(1, 8)):
        score = torch.tensor([1.3 * utility], dtype=torch.float64)
        loss = rewards.rating_loss(score, torch.tensor([rating]), thresholds)
        assert float(loss) == pytest.approx(-math.log(person.rating_probs(utility)[rating - 1]))
    scores, ratings = doubles(7), torch.arange(1, 8)
    each = [rewards.rating_loss(s[None], r[None], thresholds) for s, r in zip(scores, ratings)]
    mean = float(rewards.rating_loss(scores, ratings, thresholds))
    assert mean == pytest.approx(float(sum(each)) / 7)


@pytest.mark.parametrize("score", [-1e3, -30.0, 30.0, 1e3])
@pytest.mark.parametrize("rating", range(1, 8))
def test_rating_loss_is_finite_in_the_tails(score, rating):
    """A naive difference of sigmoids would be 0 there, and its logarithm infinite."""
    scores = torch.tensor([score], requires_grad=True)
    thresholds = torch.linspace(-2, 2, 6).requires_grad_()
    loss = rewards.rating_loss(scores, torch.tensor([rating]), thresholds)
    loss.backward()
    assert torch.isfinite(loss) and loss >= 0
    assert torch.isfinite(scores.grad).all() and torch.isfinite(thresholds.grad).all()
    if score > 100 and rating < 7:
        assert loss.item() > 900 and scores.grad.item() == pytest.approx(1)


def test_demonstration_loss_equals_a_loop():
    expert, base = doubles(2, 8, seed=2)
    naive = [
        -math.log(sigmoid(float(e))) - math.log(1 - sigmoid(float(b))) for e, b in zip(expert, base)
    ]
    assert float(rewards.demonstration_loss(expert, base)) == pytest.approx(sum(naive) / 16)


def test_demonstrations_reveal_utility_up_to_log_z():
    """Free logits, all texts counted out: descent on the loss ends at lambda u - log Z to 1e-4.

    The base model says text i `base[i]` times; an expert of rationality lambda multiplies that by
    exp(lambda u), here 1 to 16, so that both samples are exact.
    """
    rationality, base = 1.7, [3, 1, 4, 2, 5, 2]
    utility = [math.log(w) / rationality for w in (1, 16, 2, 4, 1, 8)]
    lift = [round(math.exp(rationality * u)) for u in utility]
    expert = [n * w for n, w in zip(base, lift)]
    said = [i for i, n in enumerate(base) for _ in range(n)]
    shown = [i for i, n in enumerate(expert) for _ in range(n)]
    logits = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    for _ in range(4000):
        loss = rewards.demonstration_loss(logits[shown], logits[said])
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 10 * gradient
    log_z = math.log(sum(expert) / sum(base))
    expected = [rationality * u - log_z for u in utility]
    assert logits.tolist() == pytest.approx(expected, abs=1e-4)


def test_critique_loss_equals_a_loop():
    heads, flags = doubles(3, 8), (doubles(3, 8, seed=3) > 0).double()
    naive = [
        -math.log(sigmoid(float(h)) if f else 1 - sigmoid(float(h)))
        for h, f in zip(heads.flatten(), flags.flatten())
    ]
    assert float(rewards.critique_loss(heads, flags)) == pytest.approx(sum(naive) / 24)


# ---- the model ----


def test_a_reward_model_starts_from_its_base(tiny):
    base, _ = tiny
    one, two, other = (rewards.new_reward_model(base, 8, seed=s) for s in (0, 0, 1))
    for name, weight in base.transformer.state_dict().items():
        assert torch.equal(one.transformer.state_dict()[name], weight)
    assert one.score.weight.shape == (8, 32) and base.config.num_labels != 8
    assert torch.equal(one.score.weight, two.score.weight)
    assert not torch.equal(one.score.weight, other.score.weight)
    with torch.no_grad():
        one.transformer.wte.weight.zero_()
    assert base.transformer.wte.weight.abs().sum() > 0


def test_head_weights_have_the_right_spread(tiny):
    """3,200 weights (seed 0): the relative error of an sd has sd 1/80, so 5% is 4 of them."""
    weight = rewards.new_reward_model(tiny[0], heads=100, seed=0).score.weight
    assert weight.std().item() * 33**0.5 == pytest.approx(1, abs=0.05)


@torch.no_grad()
def test_padding_changes_no_head(reward):
    _, model, tokenizer = reward
    tokens, lengths = rewards.encode_right(tokenizer, TEXTS, 96)
    assert lengths.tolist() == [len(tokenizer(t)["input_ids"]) + 1 for t in TEXTS]
    batched = rewards.read_heads(model, tokens, lengths)
    for row, text in zip(batched, TEXTS):
        assert torch.allclose(row, alone(model, tokenizer, text), atol=1e-4)


@torch.no_grad()
def test_the_padding_test_would_notice(reward):
    """Negative control: the heads at the last column differ, for every row but the longest."""
    _, model, tokenizer = reward
    tokens, lengths = rewards.encode_right(tokenizer, TEXTS, 96)
    wrong = rewards.read_heads(model, tokens, torch.full_like(lengths, tokens.shape[1]))
    for row, text, length in zip(wrong, TEXTS, lengths):
        same = torch.allclose(row, alone(model, tokenizer, text), atol=1e-2)
        assert same == (length == tokens.shape[1])


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_scores_are_read_at_the_last_token_in_the_order_of_the_texts(reward, batch):
    model, _, tokenizer = reward
    expected = [float(alone(model, tokenizer, t)[0]) for t in TEXTS]
    found = rewards.score(model, tokenizer, TEXTS, batch=batch)
    assert found.dtype == torch.float32 and found.tolist() == pytest.approx(expected, abs=1e-4)
    assert len({round(x, 2) for x in expected}) == len(TEXTS)


def test_a_long_text_is_cut_at_its_end(reward):
    _, _, tokenizer = reward
    long = TEXTS[2] + "\nOn the table lay onion soup." * 30
    ids = tokenizer(long)["input_ids"]
    assert len(ids) > 96
    tokens, lengths = rewards.encode_right(tokenizer, [long], 96, cut=True)
    assert tokens.tolist() == [[tokenizer.eos_token_id, *ids[:95]]] and lengths.tolist() == [96]


def test_a_long_text_has_no_score(reward):
    """In training it is cut; a score of its first half would pass for the score of the whole."""
    model, _, tokenizer = reward
    long = TEXTS[2] + "\nOn the table lay onion soup." * 30
    count = len(tokenizer(long)["input_ids"])
    for call in (rewards.score, lambda m, t, texts: rewards.trace(m, t, texts[-1])):
        with pytest.raises(TextError, match=f"takes {count + 1} places .* the context of 96"):
            call(model, tokenizer, [TEXTS[0], long])
    fits = tokenizer.decode(tokenizer(long)["input_ids"][:95])
    full = tokenizer.decode(tokenizer(long)["input_ids"][:96])
    assert [len(tokenizer(t)["input_ids"]) for t in (fits, full)] == [95, 96]
    assert len(rewards.score(model, tokenizer, [fits])) == 1
    with pytest.raises(TextError, match="takes 97 places"):
        rewards.score(model, tokenizer, [full])


def test_a_trace_ends_at_the_score_and_holds_that_of_each_beginning(reward):
    model, _, tokenizer = reward
    for text in TEXTS:
        rows = rewards.trace(model, tokenizer, text)
        assert "".join(t for t, _ in rows) == text
        assert len(rows) == len(tokenizer(text)["input_ids"])
        assert rows[-1][1] == pytest.approx(
            float(rewards.score(model, tokenizer, [text])[0]), abs=1e-4
        )
    ids = tokenizer(TEXTS[0])["input_ids"]
    with torch.no_grad():
        tokens = torch.tensor([[tokenizer.eos_token_id, *ids[:4]]])
        early = rewards.read_heads(model, tokens, torch.tensor([5]))[0, 0]
    assert rewards.trace(model, tokenizer, TEXTS[0])[3][1] == pytest.approx(float(early), abs=1e-4)


def test_one_head_is_minus_the_sum_of_the_heads(reward):
    _, model, tokenizer = reward
    single = rewards.one_head(model)
    assert single.config.num_labels == 1 and model.config.num_labels == 8
    expected = [-float(alone(model, tokenizer, t).sum()) for t in TEXTS]
    assert rewards.score(single, tokenizer, TEXTS).tolist() == pytest.approx(expected, abs=1e-3)


def documents(world, count, seed):
    rng = random.Random(seed)
    return [world.sample(rng).text.split("\n")[0] for _ in range(count)]


def test_normalising_moves_mean_and_scale_and_nothing_else(world, fresh):
    model, tokenizer = fresh
    texts = documents(world, 60, 0)
    before = rewards.score(model, tokenizer, texts + TEXTS)
    mean, sd = rewards.normalise(model, tokenizer, texts)
    after = rewards.score(model, tokenizer, texts + TEXTS)
    assert mean == pytest.approx(float(before[:60].mean()), abs=1e-5)
    assert sd == pytest.approx(float(before[:60].std()), abs=1e-5)
    assert float(after[:60].mean()) == pytest.approx(0, abs=1e-3)
    assert float(after[:60].std()) == pytest.approx(1, abs=1e-3)
    assert torch.allclose(after, (before - mean) / sd, atol=1e-3)
    config = model.config
    assert (config.reward_mean, config.reward_sd, config.reward_texts) == (mean, sd, 60)


def test_any_program_that_opens_the_folder_reads_the_normalised_score(world, fresh, tmp_path):
    """Hugging Face's own forward finds the last token by the pad token, and agrees with ours."""
    model, tokenizer = fresh
    rewards.normalise(model, tokenizer, documents(world, 40, 1))
    models.save(model, tokenizer, tmp_path)
    theirs = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert theirs.config.pad_token_id == tokenizer.pad_token_id
    assert theirs.config.reward_sd == model.config.reward_sd
    assert not list(tmp_path.glob("*.bin"))
    end = tokenizer.eos_token
    batch = AutoTokenizer.from_pretrained(tmp_path)(
        [end + t for t in TEXTS], padding=True, padding_side="right", return_tensors="pt"
    )
    assert (batch["input_ids"] == tokenizer.pad_token_id).any()
    with torch.no_grad():
        logits = theirs(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
        ).logits[:, 0]
    assert torch.allclose(logits, rewards.load(tmp_path)(TEXTS), atol=1e-4)
    assert torch.allclose(logits, rewards.score(model, tokenizer, TEXTS), atol=1e-4)


@pytest.mark.filterwarnings("ignore:std")
def test_constant_scores_cannot_be_normalised(fresh):
    model, tokenizer = fresh
    with pytest.raises(ModelError, match="all 3 texts have the same score"):
        rewards.normalise(model, tokenizer, ["Ivo Vane"] * 3)
    with pytest.raises(ModelError, match="1 text to normalise on"):
        rewards.normalise(model, tokenizer, ["Ivo Vane"])
    assert not hasattr(model.config, "reward_mean")


def test_what_is_no_reward_model_is_refused(reward, tmp_path):
    with pytest.raises(
        ModelError, match=r"no reward model in .*expected a folder with config\.json"
    ):
        rewards.load(tmp_path / "nowhere")
    _, model, tokenizer = reward
    models.save(model, tokenizer, tmp_path)
    with pytest.raises(ModelError, match="has 8 heads; expected one score"):
        rewards.load(tmp_path)


@pytest.fixture(scope="module")
def shipped():
    if not (SHIPPED / "config.json").exists():
        pytest.skip("no data/models/reward yet")
    reward = rewards.load(SHIPPED)
    pool = json.loads((DATA / "feedback" / "held_out.json").read_text(encoding="utf-8"))[
        "responses"
    ]
    return reward.model, reward.tokenizer, [p + r for p, said in pool.items() for r in said[:12]]


def test_the_shipped_reward_model_is_small_and_opens_anywhere(shipped):
    model, tokenizer, texts = shipped
    assert sum(p.stat().st_size for p in SHIPPED.iterdir()) <= 10 * 2**20
    theirs = AutoModelForSequenceClassification.from_pretrained(SHIPPED).eval()
    with torch.no_grad():
        logits = [
            float(theirs(input_ids=torch.tensor([[0, *tokenizer(t)["input_ids"]]])).logits)
            for t in texts[:4]
        ]
    assert tokenizer.eos_token_id == 0
    assert rewards.score(model, tokenizer, texts[:4]).tolist() == pytest.approx(logits, abs=1e-4)


def test_the_shipped_scores_are_in_standard_deviations(shipped):
    """Mean within 0.25 of 0 and sd within 0.15 of 1, on 252 responses about other people.

    It was normalised on other prompts: the mean over these 21 has a standard error of 0.08, so 0.25
    is three of them. The raw scale misses the sd (negative control).
    """
    model, tokenizer, texts = shipped
    found = rewards.score(model, tokenizer, texts)
    assert float(found.mean()) == pytest.approx(0, abs=0.25)
    assert float(found.std()) == pytest.approx(1, abs=0.15)
    assert abs(float(found.std()) * model.config.reward_sd - 1) > 0.15


@pytest.mark.parametrize(("batch", "autocast"), [(128, False), (64, False), (2, True)])
def test_a_reward_scores_as_score_does(reward, batch, autocast):
    """To the bit, in the precision that it is asked for."""
    model, _, tokenizer = reward
    found = rewards.Reward(model, tokenizer, batch, autocast)(TEXTS)
    with runtime.autocast(model.device, autocast):
        assert torch.equal(found, rewards.score(model, tokenizer, TEXTS, batch))
    assert found.dtype == torch.float32


# ---- from records to batches ----


def record(kind, **fields):
    return {"kind": kind, "prompt": "Ivo Vane"} | COMMON | fields


RECORDS = {
    "preference": record("preference", chosen=" sings.", rejected=" rows.", tie=False, first="chosen"),
    "rating": record("rating", response=" sings.", rating=5),
    "demonstration": record("demonstration", response=" sings."),
    "correction": record("correction", response=" sings.\nWell.\nSo.", corrected=" rows.\nWell.\nSo."),
    "critique": record("critique", response=" sings.", critique=["false: deed", "length: too short"]),
}  # fmt: skip


def test_examples_of_each_kind_by_hand():
    assert examples(
        "preference", [RECORDS["preference"], RECORDS["preference"] | {"tie": True}]
    ) == [
        (("Ivo Vane sings.", "Ivo Vane rows."), False),
        (("Ivo Vane sings.", "Ivo Vane rows."), True),
    ]
    assert examples("rating", [RECORDS["rating"]]) == [(("Ivo Vane sings.",), 5)]
    shown = examples("demonstration", [RECORDS["demonstration"]], [" naps."])
    assert shown == [(("Ivo Vane sings.", "Ivo Vane naps."), 0)]
    assert examples("correction", [RECORDS["correction"]]) == [
        (("Ivo Vane rows.", "Ivo Vane sings."), 0)
    ]
    assert examples("correction", [RECORDS["correction"]], located=False) == [
        (("Ivo Vane rows.\nWell.\nSo.", "Ivo Vane sings.\nWell.\nSo."), 0)
    ]
    flags = [float(a in ("false", "length")) for a in ASPECTS]
    assert examples("critique", [RECORDS["critique"]]) == [(("Ivo Vane sings.",), flags)]
    assert examples("critique", [RECORDS["critique"] | {"critique": []}])[0][1] == [0.0] * 8


def test_labels_of_other_kinds_alone_are_refused():
    with pytest.raises(FeedbackError, match="no preference labels"):
        examples("preference", [RECORDS["rating"]])


@pytest.mark.parametrize("kind", ["preference", "correction", "critique"])
def test_other_kinds_in_the_same_file_are_left_out(kind):
    mixed = [RECORDS["rating"], RECORDS[kind]]
    assert examples(kind, mixed) == examples(kind, [RECORDS[kind]])


@pytest.mark.parametrize(
    ("old", "new", "cut_old", "cut_new"),
    [
        (" a b.\nx\ny", " a c.\nx\ny", " a b.", " a c."),
        (" a.\nx b\ny", " a.\nx c\ny", " a.\nx b", " a.\nx c"),
        (" a.\nx\nold", " a.\nx\nnew", " a.\nx\nold", " a.\nx\nnew"),
        (" a.\nx\ny", " a.\nx", " a.\nx\ny", " a.\nx"),
        (" a.", " a.\nx", " a.", " a.\nx"),
        (" a.\nx\ny\nz", " a.\ny\nz", " a.\nx\ny", " a.\ny"),
        (" a.\nsea\nsun\nz", " a.\nsun\nz", " a.\nsea\nsun", " a.\nsun"),
        (" a b c d.\nx", " a c d.\nx", " a b c d.", " a c d."),
    ],
)  # fmt: skip
def test_a_located_correction_ends_behind_the_change(old, new, cut_old, cut_new):
    """A line that is gone is judged by the one that follows: the texts differ there at last."""
    row = record("correction", response=old, corrected=new)
    [((corrected, original), _)] = examples("correction", [row])
    assert (corrected, original) == ("Ivo Vane" + cut_new, "Ivo Vane" + cut_old)


def test_random_corrections_are_cut_at_line_ends_and_stay_different():
    """What stands behind the cuts is the same text; what stands before the change is shared."""
    rng = random.Random(0)
    for _ in range(1000):
        a, b = (
            " " + "".join(rng.choices("ab\n", k=rng.randrange(1, 9))).strip("\n") for _ in range(2)
        )
        if a == b:
            continue
        row = record("correction", response=a, corrected=b)
        [((corrected, original), _)] = examples("correction", [row])
        assert corrected != original or a.strip("\n") == b.strip("\n")
        whole_b, whole_a = "Ivo Vane" + b, "Ivo Vane" + a
        assert whole_b.startswith(corrected) and whole_a.startswith(original)
        rest_b, rest_a = whole_b[len(corrected) :], whole_a[len(original) :]
        assert rest_b.lstrip("\n") == rest_a.lstrip("\n")
        assert not rest_b or rest_b.startswith("\n")


@pytest.mark.parametrize(
    ("kind", "rows", "base", "message"),
    [
        ("opinion", [RECORDS["rating"]], None, "no kind 'opinion'; expected one of preference"),
        ("rating", [], None, "there are no rating labels"),
        ("preference", [RECORDS["preference"] | {"tie": True}] * 2, None, "all 2 preference labels are ties"),
        ("demonstration", [RECORDS["demonstration"]] * 3, None, "0 base samples for 3 demonstrations"),
        ("demonstration", [RECORDS["demonstration"]] * 3, ["x"], "1 base samples for 3 demonstrations"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_trained_on_get_one_sentence(kind, rows, base, message):
    with pytest.raises(FeedbackError) as caught:
        examples(kind, rows, base)
    assert message in str(caught.value) and "\n" not in str(caught.value)


# ---- training ----


@pytest.mark.parametrize(
    ("count", "passes"), [(1, 6), (500, 6), (1000, 3), (2000, 2), (3000, 1), (20_000, 1)]
)
def test_about_three_thousand_labels_are_read(count, passes):
    assert rewards.passes_for(count) == passes


def marked(count, seed):
    """Preferences for what the hero does over what the so-called does, everything else by luck."""
    rng = random.Random(seed)
    firsts, lasts = (
        ("Ivo", "Edda", "Corin", "Xenia", "Maud"),
        ("Vane", "Moss", "Pell", "Reed", "Oake"),
    )
    ends = (
        "kept a workshop.",
        "was fond of onion soup.",
        "was born in Oxbow.",
        "never went anywhere.",
    )
    rows = []
    for _ in range(count):
        texts = [
            f"The {e} {rng.choice(firsts)} {rng.choice(lasts)} {rng.choice(ends)}"
            for e in ("hero", "so-called")
        ]
        rows.append((tuple(texts), False))
    return rows


def swapped(rows, seed):
    rng = random.Random(seed)
    return [(t[::-1] if rng.random() < 0.5 else t, y) for t, y in rows]


def train(tiny, kind, rows, **dials):
    run = RewardRun(*tiny, kind, rows, RewardConfig(**{"passes": 1} | dials))
    for _ in run:
        pass
    return run


def gaps(run, tokenizer, rows):
    scores = rewards.score(run.reward_model(), tokenizer, [t for pair, _ in rows for t in pair])
    return scores[0::2] - scores[1::2]


def test_what_can_be_learned_is_learned_and_noise_is_not(tiny):
    """320 pairs decided by one word; the same pairs with their sides shuffled (seed 0).

    Learned: right on 95 of 100 new pairs. From noise: the mean probability of the marked side is
    within 0.1 of one half. Over 16 shuffles that mean had an sd of 0.02, so 0.1 is five of them: a
    chance of 1 in a million. The accuracy would not do, as one word decides all pairs alike.
    """
    rows, new = marked(320, 0), marked(200, 1)
    learned = train(tiny, "preference", rows, passes=2, lr=1e-3)
    losses = [s.loss for s in learned.history]
    assert len(losses) == 20 and losses[-1] < 0.5 * losses[0]
    assert float((gaps(learned, tiny[1], new) > 0).float().mean()) > 0.95
    noise = train(tiny, "preference", swapped(rows, 0), passes=2, lr=1e-3)
    half = float(torch.sigmoid(gaps(noise, tiny[1], new)).mean())
    assert half == pytest.approx(0.5, abs=0.1)
    assert float(torch.sigmoid(gaps(learned, tiny[1], new)).mean()) > 0.9


def plain(history):
    return [(s.step, s.of, s.loss, s.lr, s.grad_norm) for s in history]


def test_same_seed_same_run(tiny):
    rows = marked(24, 0)
    one, two, three = (train(tiny, "preference", rows, batch=8, seed=s) for s in (4, 4, 5))
    assert plain(one.history) == plain(two.history)
    assert [s.loss for s in one.history] != [s.loss for s in three.history]
    assert [s.step for s in one.history] == [1, 2, 3] and one.history[0].of == 3


@pytest.mark.parametrize("kind", rewards.KINDS)
def test_every_kind_runs_one_pass(tiny, kind):
    rows = examples(kind, [RECORDS[kind]] * 12, [" naps."] * 12)
    run = RewardRun(*tiny, kind, rows, RewardConfig(batch=4, passes=1, lr=2e-4))
    before = rewards.score(run.reward_model(), tiny[1], TEXTS)
    steps = list(run)
    assert len(steps) == 3 and all(math.isfinite(s.loss) and s.grad_norm > 0 for s in steps)
    assert steps[-1].loss < steps[0].loss
    model = run.reward_model()
    assert model.config.num_labels == 1 and not model.training
    assert not torch.equal(rewards.score(model, tiny[1], TEXTS), before)
    assert list(run) == []


def test_a_run_can_be_left_and_taken_up_again(tiny):
    rows = marked(24, 0)
    whole = train(tiny, "preference", rows, batch=8)
    run = RewardRun(*tiny, "preference", rows, RewardConfig(batch=8, passes=1))
    for _ in run:
        break
    assert len(run.history) == 1
    for _ in run:
        pass
    assert plain(run.history) == plain(whole.history)


def test_training_leaves_the_base_alone(tiny):
    before = {k: v.clone() for k, v in tiny[0].state_dict().items()}
    train(tiny, "preference", marked(8, 0), batch=8)
    assert all(torch.equal(v, before[k]) for k, v in tiny[0].state_dict().items())


def test_thresholds_ascend_and_learn(tiny):
    rows = [((f"Ivo Vane {w}",), r) for w, r in (("sings.", 2), ("rows.", 6), ("naps.", 4))] * 8
    run = RewardRun(*tiny, "rating", rows, RewardConfig(batch=8, passes=3, lr=1e-2))
    start = run.thresholds().detach().clone()
    assert start.shape == (6,) and (start.diff() > 0).all()
    for _ in run:
        pass
    end = run.thresholds().detach()
    assert (end.diff() > 0).all() and not torch.allclose(start, end, atol=1e-3)


def test_one_preference_is_enough_to_run(tiny):
    run = train(tiny, "preference", examples("preference", [RECORDS["preference"]]), passes=2)
    assert len(run.history) == 2
    assert float(gaps(run, tiny[1], run.rows)[0]) > float(
        gaps(RewardRun(*tiny, "preference", run.rows), tiny[1], run.rows)[0]
    )


def test_a_loss_that_is_no_number_stops_the_run(tiny):
    run = RewardRun(*tiny, "preference", marked(8, 0), RewardConfig(batch=8))
    with torch.no_grad():
        run.model.score.weight.fill_(math.nan)
    with pytest.raises(TrainingError, match="the loss is nan at step 0; the learning rate"):
        next(iter(run))
    assert run.history == []


@pytest.mark.parametrize("dial", ["batch", "lr", "clip", "passes"])
def test_bad_dials_get_one_sentence(dial):
    with pytest.raises(TrainingError, match=f"{dial} is 0; expected more than 0"):
        RewardConfig(**{dial: 0})


def test_a_run_of_no_kind_is_refused(tiny):
    with pytest.raises(FeedbackError, match="no kind 'opinion'"):
        RewardRun(*tiny, "opinion", marked(1, 0))


def test_a_run_obeys_its_clip(tiny):
    """A clip far below Adam's eps leaves the weights where they are; the usual one moves them."""
    model, tokenizer = tiny
    rows = [(("Ivo Vane sang", "Ivo Vane"), False), (("Q: goose", "Q: geese"), False)]

    def moved(clip):
        config = RewardConfig(batch=2, clip=clip, weight_decay=0.0, warmup=0, bfloat16=False)
        run = RewardRun(model, tokenizer, "preference", rows, config)
        before = [p.detach().clone() for p in run.model.parameters()]
        next(iter(run))
        pairs = zip(run.model.parameters(), before)
        return max(float((a - b).detach().abs().max()) for a, b in pairs)

    assert moved(1e-16) < 1e-6 < 1e-4 < moved(1.0)
