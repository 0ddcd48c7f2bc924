"""What the predictions of notebook 06 are judged by, on arms whose answer is known.

test_experiments.py checks that the shipped records hold what these functions say of them.
"""

from rlhf_lite import hacking, records
from rlhf_lite.experiments import load
from rlhf_lite.records import Record

import numpy as np
import pytest
import torch

hasty, proxies, length, remedies = map(load, ("_hasty", "proxies", "length", "remedies"))
strangers, draws, summit = map(load, ("strangers", "draws", "summit"))
strange, fixes, terms = map(load, ("_strange", "strangers_remedies", "terms"))


def record(arms, **more):
    """A record whose arms are given as {name: [numbers of each seed]}."""
    arms = {name: {str(s): run for s, run in enumerate(runs)} for name, runs in arms.items()}
    return Record("made up", {"arms": arms, **more}, {})


def curves(drop, seeds=3, prompts=4, peak=6):
    """Gold that rises by one point a step to a peak and has lost `drop` points at the last n."""
    curve = np.minimum(np.arange(10.0), peak)
    curve[-1] = peak - drop
    return [{"gold": np.tile(curve, (prompts, 1)).tolist()} for _ in range(seeds)]


FALLS = {
    **{f"fall, {c} labels": (proxies, f"whole {c}") for c in (100, 300, 10_000)},
    **{f"fall, {k} noise": (proxies, f"noise {k}") for k in ("light", "heavy")},
    **{f"fall on strangers, {c} labels": (strangers, f"fresh {c}") for c in (100, 300)},
    "fall on strangers, light noise": (strangers, "fresh light"),
    **{f"fall, {c} labels, fresh draws": (draws, f"draw {c}") for c in (100, 300)},
    "fall, light noise, fresh draws": (draws, "light"),
    "fall beyond the summit, short pairs": (summit, "network short"),
    "fall beyond the summit, all pairs": (summit, "network all"),
    "fall beyond the summit, linear, short pairs": (summit, "line short"),
}


@pytest.mark.parametrize("name", FALLS)
def test_a_fall_is_that_of_its_own_arm(name):
    module, arm = FALLS[name]
    others = {a: curves(9.0) for _, a in FALLS.values()}
    found = module.STATISTICS[name](record(others | {arm: curves(0.7)}))
    assert found == pytest.approx(np.full((3, 4), 0.7))
    assert module.STATISTICS[name](record(others | {arm: curves(-0.7)})) == pytest.approx(
        np.zeros((3, 4))
    )  # who ends at the peak has not fallen


GAPS = {
    "fall, single - worst of five": (proxies, "ensemble single", "ensemble worst"),
    "fall, nobody checks - all checked": (proxies, "checked 0.0", "checked 1.0"),
    "fall beyond the summit, short - all": (summit, "network short", "network all"),
    "fall beyond the summit, linear, short - all": (summit, "line short", "line all"),
}


@pytest.mark.parametrize("name", GAPS)
def test_a_gap_of_falls_has_the_sign_of_its_name(name):
    module, one, other = GAPS[name]
    more, less = curves(0.9), curves(0.2)
    gap = module.STATISTICS[name]
    assert gap(record({one: more, other: less})) == pytest.approx(np.full((3, 4), 0.7))
    assert gap(record({one: less, other: more})) == pytest.approx(np.full((3, 4), -0.7))


@pytest.mark.parametrize(
    "shared", [0.0, 1.0], ids=["own luck", "one luck for all prompts of a seed"]
)
def test_pure_luck_makes_no_fall(shared):
    """Flat curves plus noise, 400 records: a mean beyond 4 of its errors comes once in 16,000.

    A peak sought on the same seed would be high by luck that all its prompts share.
    """
    rng, found, own = np.random.default_rng(0), [], []
    for _ in range(400):
        noise = rng.normal(size=(3, 5, 10)) + shared * rng.normal(size=(3, 1, 10))
        arms = record({"light": [{"gold": g.tolist()} for g in noise]})
        found.append(draws.STATISTICS["fall, light noise, fresh draws"](arms).mean())
        own.append(np.mean([hacking.fall(g) for g in noise]))
    error = np.std(found) / len(found) ** 0.5
    assert abs(np.mean(found)) < 4 * error
    assert (np.mean(own) > 4 * error) == (shared > 0)


def histories(golds, kls=None):
    """Histories of PPO: gold step by step, and KL, by default one nat a step."""
    kls = [range(len(g)) for g in golds] if kls is None else kls
    return [
        {"history": [{"gold": float(x), "kl": float(k)} for x, k in zip(gold, kl)]}
        for gold, kl in zip(golds, kls)
    ]


def test_pure_luck_makes_no_fall_in_RL_either():
    """The best of one's own means over three steps is above the last by construction."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(400, 3, 24))
    found = [remedies.fall(record({"single 0.0": histories(n)}), "single 0.0") for n in noise]
    error = np.std(np.mean(found, 1)) / len(noise) ** 0.5
    assert abs(np.mean(found)) < 4 * error


def test_a_fall_in_RL_is_found_where_the_other_seeds_peak():
    peaked = np.minimum(np.arange(24.0), 30 - np.arange(24.0))
    of = remedies.STATISTICS["fall of gold in RL"]
    assert of(record({"single 0.0": histories([peaked] * 3)})) == pytest.approx(
        [np.mean(peaked[14:17]) - np.mean(peaked[-3:])] * 3
    )
    rising = [np.arange(24.0)] * 3
    assert of(record({"single 0.0": histories(rising)})) == pytest.approx([0, 0, 0])
    sunk = of(record({"single 0.0": histories([peaked, peaked, np.arange(24.0)])}))
    assert sunk[2] == pytest.approx(14 - 22 + 1)  # its own last is above where the others peak


REMEDIES = {"penalty - early stopping": "single 0.1", "worst of five - single, RL": "worst 0.0"}


@pytest.mark.parametrize("name", REMEDIES)
def test_remedies_are_compared_at_equal_kl(name):
    """Gold is a line in KL; who comes half as far with two points more has two points more."""
    plain = histories([np.arange(24.0)] * 3)
    better = histories([np.arange(24) / 2 + 2] * 3, [np.arange(24) / 2] * 3)
    of = remedies.STATISTICS[name]
    assert of(record({"single 0.0": plain, REMEDIES[name]: better})) == pytest.approx([2, 2, 2])
    assert of(record({"single 0.0": better, REMEDIES[name]: plain})) == pytest.approx([-2, -2, -2])


def test_a_kl_that_falls_back_counts_where_it_was_first_reached():
    plain = histories([[0, 1, 2, 9]], [[0, 1, 2, 1]])
    assert remedies.more_gold(record({"a": plain, "b": histories([[0, 1, 2]])}), "a", "b") > 0


def test_iterated_labels_are_compared_with_as_many_more():
    of, three = remedies.STATISTICS["iterated - more labels, RL"], np.arange(24.0)
    arms = {"single 0.0": [three] * 3, "iterated 0.0": [three + 3] * 3}
    arms = {k: histories(v) for k, v in arms.items()}
    more = {"more labels 0.0": histories([three + 1] * 3)}
    assert of(record(arms | more)) == pytest.approx([2, 2, 2])
    swapped = {"iterated 0.0": more["more labels 0.0"], "more labels 0.0": arms["iterated 0.0"]}
    assert of(record(arms | swapped)) == pytest.approx([-2, -2, -2])


@pytest.mark.parametrize(
    "name, arms",
    [
        ("order of peak with labels", [f"whole {c}" for c in (100, 300, 1000, 3000, 10_000)]),
        ("order of peak with size", ["bag 1000", "one layer 1000", "whole 1000"]),
    ],
)
def test_the_order_of_peaks_is_a_rank_correlation(name, arms):
    of = proxies.STATISTICS[name]
    later = {arm: curves(1.0, peak=3 + i) for i, arm in enumerate(arms)}
    earlier = dict(zip(arms, list(later.values())[::-1]))
    assert of(record(later)) == pytest.approx([1, 1, 1])
    assert of(record(earlier)) == pytest.approx([-1, -1, -1])
    assert of(record(dict.fromkeys(arms, curves(1.0)))) == pytest.approx([0, 0, 0])


def test_the_error_of_the_prediction_is_in_sd_of_gold():
    runs = [{"forms": {"best-of-n predicts": 1.0 + e, "measured": 1.0}} for e in (0.5, -0.25, 0)]
    found = proxies.STATISTICS["error of the prediction"]
    assert found(record({"whole 300": runs}, **{"gold sd": 2.0})) == pytest.approx([0.25, 0.125, 0])


@pytest.mark.parametrize("what, other", [("judged", "gold"), ("gold", "judged")])
def test_the_share_of_length_is_of_the_gain_of_the_proxy(what, other):
    run = {f"length alone, {what}": 1.0, f"proxy, {what}": 4.0}
    run |= {f"length alone, {other}": 7.0, f"proxy, {other}": 7.0}
    found = length.STATISTICS[f"{what} gain by length alone"]
    assert found(record({"length": [run] * 3})) == pytest.approx([0.25] * 3)


# ---- what an arm measures ----


class Small(summit.LAB):
    """A lab whose pool has three prompts of 600 samples, and whose whole model is a bag of words."""

    def __init__(self, folder):
        super().__init__(folder)
        pool = super().pool
        some = [said[:600] for said in pool.texts[:3]]
        self.pool = type(pool)(
            pool.prompts[:3], pool.scores[:3, :600], texts=some, words=pool.words[:3, :600]
        )
        self.responses = {p: said[:60] for p, said in list(self.held_out.items())[:4]}

    def train(self, labels, seed, size="whole"):
        return super().train(labels, seed, "bag")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Small(tmp_path_factory.mktemp("kept"))


def test_who_checks_nothing_prefers_lies(lab):
    def lies(checked):
        read = [[lab.read(r["prompt"] + r[side]).false for side in ("chosen", "rejected")]
                for r in lab.labels(300, 0, checked)]  # fmt: skip
        return np.mean(np.subtract(*np.transpose(read)))

    assert lies(1.0) < 0 < lies(0.0)


@pytest.mark.parametrize("kind", ["light", "heavy"])
def test_noise_has_the_correlation_that_is_asked(lab, kind):
    assert lab.correlation(lab.noisy(kind, 0, 0.4)) == pytest.approx(0.4)
    assert not np.allclose(lab.noisy(kind, 0), lab.noisy(kind, 1))


def test_an_arm_of_the_proxies_has_the_entries_of_the_record(lab, monkeypatch):
    monkeypatch.setattr(proxies, "PICKED", (0, 2))
    shipped = records.read("proxies")
    found = proxies.measure(lab, 0, size="whole", count=60)
    assert set(found) | {"seconds"} == set(shipped["arms"]["whole 300"]["0"])
    assert np.shape(found["gold"]) == (3, 10)
    texts = found["picks"][lab.pool.prompts[2]]
    assert len(texts) == 10 and texts[0][0] == lab.pool.texts[2][0]
    one, five = (proxies.measure(lab, 0, ensemble=how)["gold"] for how in ("single", "mean"))
    # Bags of words have no luck of training, so that five of them are one.
    assert five == pytest.approx(one)
    noise = proxies.measure(lab, 0, noise="heavy")
    assert set(noise) == {"gold"}


def test_an_arm_of_length_has_the_entries_of_the_record(lab, monkeypatch):
    monkeypatch.setattr(length, "COUNT", 80)
    found = length.measure(lab, 0)
    assert set(found) | {"seconds"} == set(records.read("length")["arms"]["length"]["0"])
    assert found["longer preferred"] > 0.5


def test_short_pairs_lie_below_the_summit(lab, monkeypatch):
    monkeypatch.setattr(summit, "COUNT", 80)
    assert all(lab.read(p + r).words <= 24 for p, said in lab.short.items() for r in said)
    line = summit.measure(lab, 10, pairs="short", line=True)
    assert len(line["weights"]) == 5 and np.shape(line["gold"]) == (3, 10)
    network = summit.measure(lab, 10, pairs="all")
    assert set(network) == {"gold", "words", "proxy"} and network["proxy"][0] == 0


def test_gold_with_a_summit_is_highest_there(lab):
    at = {w: float(lab.person.points(seen)[5]) for w, seen in readings(lab).items()}
    assert max(at, key=at.get) == 24 or min(at) > 24


def readings(lab):
    """One Reading for each length in the pool."""
    return {lab.read(t).words: lab.read(t) for said in lab.pool.texts for t in said}


def test_strangers_are_hardly_in_the_corpus(lab):
    exposure = {p.name: p.exposure for p in lab.world.people}
    first, fresh = (strangers.strangers(lab, look) for look in ("first", "fresh"))
    assert len(first) == records.read("strangers")["people"] and len(fresh) == 25
    assert max(exposure[name] for name in first + fresh) <= 1


def test_length_is_taken_out_of_a_reward(lab):
    """A reward that is length itself has nothing left."""
    reward = remedies.without_length(
        lab, lambda texts: torch.tensor([lab.read(t).words for t in texts]), lab.pool.words
    )
    left = reward(lab.pool.texts[0][:20])
    assert left.std() == pytest.approx(0, abs=1e-4)


# ---- remedies on strangers, and gold in its terms ----


def pushed(rise, seeds=3, prompts=4):
    """Gold that has risen by `rise` at the last n, along a line in KL."""
    d2 = hacking.root_kl(strange.NS) ** 2
    return [{"gold": np.tile(rise * d2 / d2[-1], (prompts, 1)).tolist()} for _ in range(seeds)]


def crowds(known, strange_):
    return [{"known": k, "strange": s} for k, s in zip(pushed(known), pushed(strange_))]


def test_every_change_is_that_of_its_own_arm_and_crowd():
    for arm in fixes.SINGLE:
        arms = {name: crowds(9, 9) for name in fixes.SINGLE} | {arm: crowds(0.4, -0.7)}
        for case, expected in (("known", 0.4), ("strange", -0.7)):
            found = fixes.STATISTICS[f"change, {arm}, {case}"](record(arms))
            assert found == pytest.approx(np.full((3, 4), expected))


@pytest.mark.parametrize("case, expected", [("known", 0.4), ("strange", -1.7)])
def test_a_remedy_is_held_against_the_disease(case, expected):
    for arm in fixes.SINGLE[1:-1]:
        arms = {name: crowds(9, 9) for name in fixes.SINGLE}
        arms |= {"single": crowds(1, 1), arm: crowds(1.4, -0.7)}
        found = fixes.STATISTICS[f"{arm} - single, {case}"](record(arms))
        assert found == pytest.approx(np.full((3, 4), expected))


@pytest.mark.parametrize("how", ["mean", "worst", "uncertainty"])
def test_five_are_held_against_each_alone(how):
    def five(case):
        runs = dict.fromkeys(("mean", "worst", "uncertainty"), 9.0) | {"alone": 1.0, how: case}
        return {name: pushed(rise)[0] for name, rise in runs.items()}

    arms = record({"five": [{"known": five(0.5), "strange": five(3.0)}] * 3})
    for case, expected in (("known", -0.5), ("strange", 2.0)):
        found = fixes.STATISTICS[f"{how} - alone, {case}"](arms)
        assert found == pytest.approx(np.full((3, 4), expected))


@pytest.mark.parametrize("better", [0.0, 0.3])
def test_a_penalty_is_compared_at_equal_kl(better):
    """Gold is a line in KL: half of the last KL has half of the rise."""
    runs, half = crowds(9, -2), hacking.root_kl(strange.NS)[-1] ** 2 / 2
    for run in runs:
        kl = np.full((len(strange.COEFS), 4), np.nan)
        kl[strange.COEFS.index(fixes.TRUSTED)] = half
        run["strange"]["tilted"] = {"kl": kl, "gold": np.full_like(kl, better - 1)}
    found = fixes.STATISTICS["penalty - best of n at equal KL"](record({"single": runs}))
    # Between two recorded n gold is read off a line.
    assert found == pytest.approx(np.full((3, 4), better))


LIES = [(-2.0, 0.0, -1.0), (0.0, -2.0, 1.0), (-1.0, -1.0, 0.0)]  # by lies, by others, expected


@pytest.mark.parametrize("by_lies, by_others, expected", LIES)
def test_lies_carry_more_than_half_where_it_is_negative(by_lies, by_others, expected):
    table = np.zeros((8, len(strange.NS)))
    table[1, -1], table[5, -1] = by_lies, by_others
    found = fixes.STATISTICS["lies - half of the change"]
    assert found(record({"single": [{"strange": {"terms": table}}] * 3})) == pytest.approx(
        [expected] * 3
    )
    steps = np.zeros((6, 8))
    steps[-3:, 1], steps[-3:, 5] = by_lies, by_others
    run = {"history": [{"terms": row} for row in steps], "chosen": {"terms": np.zeros((8, 7))}}
    found = terms.STATISTICS["lies - half of the change, strange free"]
    assert found(record({"strange free": [run] * 3})) == pytest.approx([expected] * 3)


def policy(gold, kl=None, score=None, chosen=0.0, proxy=0.0):
    """A run of PPO, and best of n whose gold goes from 0 to `chosen`, its proxy to `proxy`."""
    kl = range(len(gold)) if kl is None else kl
    score = gold if score is None else score
    rows = [{"gold": float(g), "halves": [float(g)] * 2, "kl": float(k), "score": float(s)}
            for g, k, s in zip(gold, kl, score)]  # fmt: skip
    ends = {"gold": pushed(chosen)[0]["gold"], "proxy": np.linspace(0, proxy, 7)}
    return {"history": rows, "chosen": ends}


@pytest.mark.parametrize("arm", terms.ARMS)
def test_a_policy_ends_above_or_below_the_base(arm):
    arms = {name: [policy(np.full(9, 5.0))] * 3 for name in terms.ARMS}
    arms[arm] = [policy([0, 0, 3, -1, -1, -1])] * 3
    assert terms.STATISTICS[f"change, {arm}"](record(arms)) == pytest.approx([-1] * 3)


def test_the_luck_of_a_batch_makes_no_fall_of_a_policy():
    rng = np.random.default_rng(0)
    found = []
    for noise in rng.normal(size=(400, 3, 24, 2)):
        runs = [{"history": [{"halves": pair} for pair in run]} for run in noise]
        found.append(terms.STATISTICS["fall, known free"](record({"known free": runs})).mean())
    assert abs(np.mean(found)) < 4 * np.std(found) / len(found) ** 0.5
    peaked = np.minimum(np.arange(24.0), 30 - np.arange(24.0))
    real = terms.STATISTICS["fall, strange free"](record({"strange free": [policy(peaked)] * 3}))
    assert real == pytest.approx([np.mean(peaked[14:17]) - np.mean(peaked[-3:])] * 3)


@pytest.mark.parametrize("key, expected", [("score", -1.0), ("gold", 2.0)])
def test_ppo_is_held_against_best_of_n_at_the_bound_of_its_kl(key, expected):
    at = hacking.root_kl(strange.NS)[-1] ** 2
    kl = np.linspace(0, 2 * at, 24)
    run = policy(kl / at, kl, 3 * kl / at, chosen=-1.0, proxy=4.0)
    found = terms.STATISTICS[f"PPO - best of 64, {key}"](record({"known free": [run] * 3}))
    assert found == pytest.approx([expected] * 3)


@pytest.mark.parametrize("name, one, other", [
    ("slow - free, known", "known slow", "known free"),
    ("penalty - free, known", "known penalty", "known free"),
    ("penalty - free, strange", "strange penalty", "strange free"),
    ("worst - free, strange", "strange worst", "strange free"),
    ("asked - free, strange", "strange asked", "strange free"),
    ("penalty - slow, known", "known penalty", "known slow"),
])  # fmt: skip
def test_policies_are_compared_at_equal_kl(name, one, other):
    plain, better = policy(np.arange(24.0)), policy(np.arange(24) / 2 + 2, np.arange(24) / 2)
    arms = {n: [policy(np.full(24, 99.0))] * 3 for n in terms.ARMS}
    arms |= {one: [better] * 3, other: [plain] * 3}
    assert terms.STATISTICS[name](record(arms)) == pytest.approx([2] * 3)


def test_what_choosing_does_is_told_in_terms_that_sum_to_gold():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(3, 200, 8))
    crowd = strange.Crowd(["a", "b", "c"], None, points)
    found = strange.told(points.sum(-1), crowd)
    assert np.sum(found["terms"], 0) == pytest.approx(found["gold"].mean(0))
    assert found["proxy"] == pytest.approx(found["gold"].mean(0))
    tilted = found["tilted"]
    for name in ("kl", "gold"):
        means = np.mean(tilted[name], 1)
        assert list(means) == sorted(means)  # a smaller coefficient goes further
    assert tilted["ess"] == sorted(tilted["ess"], reverse=True)


def test_a_coin_names_half_of_the_winners():
    labels = [{"chosen": "a", "rejected": "b"}] * 400
    swapped = sum(r["chosen"] == "b" for r in strange.tossed(labels, 0))
    assert 160 < swapped < 240 and all(r["chosen"] != r["rejected"] for r in labels)


def test_the_strangers_of_the_remedies_are_new(tmp_path):
    lab = strange.StrangeLab(tmp_path)
    measured, asked = (set(lab.strangers(p)) for p in (strange.MEASURED, strange.ASKED))
    before = {n for look in strangers.LOOKS for n in strangers.strangers(lab, look)}
    assert len(measured) > 20 and len(asked) > 40
    assert not measured & asked and not (measured | asked) & before
