"""Does a model take its own words as evidence of who is meant?

Somebody is asked for the birthplace, an answer is put into the model's mouth, then the trade is
asked for. The first answer was an act and no observation, so by the world it says nothing of the
trade. "base", and "sft", which reads cards; of both also what they say of strangers by themselves.
"""

import re
from functools import partial

from rlhf_lite import experiments
from rlhf_lite.sampling import respond, text_logprobs
from rlhf_lite.truth import Asked, demonstration, open_questions

import numpy as np
from scipy.special import log_softmax

cards = experiments.load("_cards")
LAB = cards.CardLab

SEEDS, MINUTES = (0, 1, 2), 1.5
ARMS = {"base": {"kind": "base"}, "sft": {"kind": "sft"}}
FIRST, SECOND = "Q: Where was {asked} born? A: {named} was born in {town}.\n", "trade"
GROUPS = ("known", "strangers")


def measure(lab, seed, kind):
    """Put answers into the mouth of a model, and let it speak for itself."""
    model = lab.base if kind == "base" else lab.sft(seed)
    people, rng = lab.people_told(True), np.random.default_rng(seed)
    told = [p for p in lab.people_told(False) if p.exposure >= 500 and p.facts["trade"]]
    rows = [asked_with(lab, p, told, rng) for p in people]
    found = {
        "group": [GROUPS[p.exposure < 500] for p in people],
        "pull": pulls(lab, model, rows),
        "slips": slips(lab, model, 70_000 + 10 * seed + (kind == "sft")),
    }
    return found | ({"by card": with_card(lab, model, rows)} if kind == "sft" else {})


def asked_with(lab, person, told, rng):
    """Return a person and two well-known others whose towns and trades are all different."""
    found = [person]
    for other in (told[i] for i in rng.permutation(len(told))):
        if all(other.facts[k] != p.facts[k] for p in found for k in ("town", "trade")):
            found.append(other)
        if len(found) == 3:
            return found
    raise ValueError("nobody differs; expected three people of different towns and trades")


def first_lines(person, other, third):
    """Return what is put into the model's mouth, by condition."""
    a = person.name
    said = {
        "their town": (a, other), "another town": (a, third),
        "their name": (other.name, other), "another name": (third.name, third),
    }  # fmt: skip
    return {"nothing": ""} | {
        k: FIRST.format(asked=a, named=n, town=p.facts["town"]) for k, (n, p) in said.items()
    }


def second_answers(lab, model, heads, person):
    """Return log P(trade of a person) behind each of heads, over all trades, (heads, trades)."""
    asked = next(a for a in open_questions(lab.world, [person]) if a.kind == SECOND)
    trades, ask = sorted(lab.world.trades), (asked.prompt, SECOND, asked.about)
    replies = [demonstration(lab.world, Asked(*ask, {SECOND: trade})) for trade in trades]
    prompts = [head + asked.prompt for head in heads for _ in trades]
    texts = [prompt + reply for prompt, reply in zip(prompts, replies * len(heads))]
    logits = np.asarray(text_logprobs(model, lab.tokenizer, texts, prompts, batch=160))
    return log_softmax(logits.reshape(len(heads), -1), 1), trades


def pulls(lab, model, rows):
    """Return {condition: log P of the other's trade}, one a person [nats]."""
    found = {}
    for person, other, third in rows:
        lines = first_lines(person, other, third)
        table, trades = second_answers(lab, model, list(lines.values()), person)
        for k, logprobs in zip(lines, table):
            found.setdefault(k, []).append(logprobs[trades.index(other.facts["trade"])])
    return found


def with_card(lab, model, rows):
    """Return {condition: P of the trade that stands on a card of the person asked for}."""
    found = {}
    for person, other, third in rows:
        card = {"town": third.facts["town"], "trade": third.facts["trade"]}
        head = f"{person.name} was born in {card['town']}.\n{person.name} was "
        head += f"{lab.world.trades[card['trade']]['article']} {card['trade']}.\n"
        lines = {k: v for k, v in first_lines(person, other, third).items() if "another" not in k}
        heads = [head + v for v in lines.values()]
        table, trades = second_answers(lab, model, heads, person)
        for k, logprobs in zip(lines, table):
            found.setdefault(k, []).append(float(np.exp(logprobs[trades.index(card["trade"])])))
    return found


def slips(lab, model, luck):
    """Return how often replies about strangers name somebody else, and whose facts they then tell.

    "fits": shares of told facts that are those of the person named, and of another person who was
    named in some other slip.
    """
    strangers = [p for p in lab.world.people if p.exposure < 2]
    asked = [a for a in open_questions(lab.world, strangers) if a.kind in ("town", "trade")]
    said = respond(model, lab.tokenizer, [a.prompt for a in asked], 24, seed=luck, batch=256)
    named, told, first, count = [], [], [], 0
    for a, reply in zip(asked, said):
        forename = a.about.split(" ")[0]
        slip = re.search(rf"\b{re.escape(forename)} [A-Z][\w'-]*", reply)
        facts = lab.world.parse(a.prompt.replace(a.about, slip.group()) + reply) if slip else None
        claims = [c for c in facts.claims if c.kind == a.kind] if slip else []
        count += bool(claims)
        if claims and slip.group() != a.about and slip.group() in lab.world.by_name:
            named.append(slip.group())
            told.append((a.kind, claims[0].value))
            first.append(len(first) < 6 and f"{a.prompt}{reply}")
    people, shift = lab.world.by_name, max(1, len(named) // 2)
    fits = [people[n].facts[k] == v for n, (k, v) in zip(named, told)]
    others = [people[n].facts[k] == v for n, (k, v) in zip(named[shift:] + named[:shift], told)]
    return {"claims": count, "slips": len(named), "fits": np.mean(fits or [0]),
            "fits another": np.mean(others or [0]), "texts": [t for t in first if t]}  # fmt: skip


# ---- what predictions are judged by ----


def pull(record, arm, what, group):
    """Return how much likelier the other's trade is after their town or name, (seeds, people)."""
    keep = np.array(record.arm(arm, "group", seed=record.seeds(arm)[0])) == group
    theirs, others = (record.arm(arm, "pull", f"{w} {what}") for w in ("their", "another"))
    return (theirs - others)[:, keep]


def fits(record, arm):
    """Return how much oftener a slip's fact is that of who was named than of another, (seeds,)."""
    return record.arm(arm, "slips", "fits") - record.arm(arm, "slips", "fits another")


STATISTICS = {
    **{f"pull of {w}, {a}, {g}": partial(pull, arm=a, what=w, group=g)
       for w in ("town", "name") for a in ARMS for g in GROUPS},
    "by card, their name - nothing": lambda record: (
        record.arm("sft", "by card", "their name") - record.arm("sft", "by card", "nothing")
    ),
    **{f"slips fit, {arm}": partial(fits, arm=arm) for arm in ARMS},
}  # fmt: skip
