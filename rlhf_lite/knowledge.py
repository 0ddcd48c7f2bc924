"""Measure what a language model knows of its world, the exact number beside its own.

Loss against the floor, voices and claims of samples, recall by exposure, confidence and when to be
silent, the posterior over voices, the next token, the pronoun of a translation. Omits diversity and
judges, which are modules of their own. Taught by notebooks 01, 08 and 11.
"""

import random
import re
from collections import Counter
from itertools import pairwise

from rlhf_lite.checks import check_alike, check_choice, check_count, check_number, check_texts
from rlhf_lite.sampling import next_token_probs, sample, text_logprobs
from rlhf_lite.training import evaluate_loss
from rlhf_lite.world import FACTS, Person, check_document

import numpy as np
from scipy.special import softmax
from scipy.stats import linregress, rankdata

EXPOSURE_BINS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 10_000)


# ---- what it says ----


def held_out_loss(model, tokenizer, world, documents):
    """Compare the model's loss with the exact floor on sampled documents.

    All together, and by exposure of the person. Returns {group: dict}: documents, loss and floor
    [nats a document], loss_token and floor_token [nats a token, end included], excess (loss / floor
    - 1) and its standard error. The floor is the mean of the exact -log p(text) of the very same
    documents. The tokenizer turns each text into one token sequence, so text and tokens have the
    same floor; probability that the model gives to other spellings counts as loss.
    """
    for document in documents:
        check_document(document)
    texts = check_texts([d.text for d in documents], "documents", 1)
    loss = evaluate_loss(model, tokenizer, texts).numpy()
    floor = np.array([-world.log_prob(t) for t in texts])
    tokens = np.array([len(ids) + 1 for ids in tokenizer(texts)["input_ids"]])
    exposure = np.array([d.subject.exposure if d.topic == "person" else -1 for d in documents])
    groups = {
        "all documents": exposure > -2,
        "person seen 100 times or more": exposure >= 100,
        "person seen 2 to 99 times": (exposure > 1) & (exposure < 100),
        "not about a person": exposure == -1,
    }
    table = {}
    for name, keep in groups.items():
        a, b, n = loss[keep], floor[keep], tokens[keep]
        if len(a):
            table[name] = {
                "documents": len(a),
                "loss": float(a.mean()),
                "floor": float(b.mean()),
                "loss_token": float(a.sum() / n.sum()),
                "floor_token": float(b.sum() / n.sum()),
                "excess": float(a.mean() / b.mean() - 1),
                "excess_se": float((a - b).std() / b.mean() / np.sqrt(len(a))),
            }
    return table


def read_samples(world, texts):
    """Summarise texts by the parser: voice shares, claims, off-grammar and impossible shares.

    The voice shares stand beside the prior. Texts that no single voice can have written count in
    "no voice"; off_grammar is the share of characters from where a line leaves the grammar to its
    end, faulty lines the share of lines that do so at all.
    """
    texts = check_texts(texts, least=1)
    parses = [world.parse(t) for t in texts]
    shares = np.sum([p.voices for p in parses], axis=0) / len(parses)
    claims = [c.verdict for p in parses for c in p.claims]
    lines = [line for p in parses for line in p.lines]
    off = sum(x.off[1] - x.off[0] for x in lines if x.off)
    verdicts = ("true", "false", "unsupported")
    return {
        "documents": len(parses),
        "shares": dict(zip(world.voices, shares.tolist())),
        "prior": dict(zip(world.voices, world.prior.tolist())),
        "no voice": float(1 - shares.sum()),
        "off_grammar": off / max(1, sum(len(x.text) for x in lines)),
        "faulty lines": sum(x.frame is None for x in lines) / len(lines),
        "impossible": float(np.mean([not p.possible for p in parses])),
        "repetition": float(np.mean([p.repetition for p in parses])),
        "words": float(np.mean([p.words for p in parses])),
        "claims": {v: claims.count(v) / len(claims) for v in verdicts if claims},
    }


# ---- what it recalls ----


def probe_text(world, table, kind, person, value):
    """Return (prompt, prompt + value) of a probe in prompts.toml about a person."""
    if kind not in FACTS or table not in ("probe", "tabloid_probe") or value is None:
        expected = f"'probe' or 'tabloid_probe', one of {', '.join(FACTS)}, and a known fact"
        raise ValueError(f"no {table!r} for the {kind!r} {value!r}; expected {expected}")
    form = world.prompts[table][kind].replace("{name}", person.name)
    if kind == "trade":
        value = f"{world.trades[value]['article']} {value}"
    head = form[: form.rindex("{")].rstrip()
    return head, f"{head} {value}"


def twins(world, people, count, seed=0):
    """Return [(true text, false text)] that differ in one fact, about people drawn from a list.

    Each is one plain sentence of the encyclopedia; the false fact is somebody else's.
    """
    rng, found = np.random.default_rng(seed), []
    while len(found) < count:
        person = people[rng.integers(len(people))]
        kind = FACTS[rng.integers(len(FACTS))]
        other = world.people[rng.integers(len(world.people))].facts[kind]
        true = person.facts[kind]
        if true and other and other not in (true, person.tabloid, person.name):
            wholes = (probe_text(world, "probe", kind, person, v)[1] for v in (true, other))
            found.append(tuple(f"{whole}." for whole in wholes))
    return found


def recall(model, tokenizer, world, people, exposures, table="probe"):
    """Ask for each known fact of `people`; return a list of dicts, one a fact.

    Each has name, kind, exposure, truth, tabloid, hit. exposures: {name: {kind: documents that tell
    the fact as it is}}, as `World.exposures` counts. truth: the model's probability of the fact;
    tabloid: of the tabloid's version, None where there is none; hit: whether greedy decoding says
    the fact. The two probes are worded so that only one voice uses them.
    """
    for person in people:
        if not isinstance(person, Person) or person.name not in exposures:
            raise ValueError(f"{person!r:.60} has no exposures; expected people of the world")
    facts = [(p, kind) for p in people for kind in FACTS if p.facts[kind] is not None]
    rows = [{"name": p.name, "kind": k, "exposure": exposures[p.name][k]} for p, k in facts]
    probes = [probe_text(world, table, kind, p, p.facts[kind]) for p, kind in facts]
    prompts, truths = [prompt for prompt, _ in probes], [text for _, text in probes]
    asked = [i for i, (p, kind) in enumerate(facts) if kind == p.disputed]
    lies = [probe_text(world, table, k, p, p.tabloid)[1] for p, k in facts if k == p.disputed]
    greedy = sample(model, tokenizer, prompts, max_new_tokens=14, temperature=1e-4).texts
    scores = text_logprobs(model, tokenizer, truths, prompts)
    for row, score, said, truth in zip(rows, scores, greedy, truths):
        row |= {"truth": float(np.exp(score)), "tabloid": None, "hit": said.startswith(truth)}
    scores = text_logprobs(model, tokenizer, lies, [prompts[i] for i in asked])
    for i, score in zip(asked, scores):
        rows[i]["tabloid"] = float(np.exp(score))
    return rows


def bin_exposures(rows, key):
    """Average rows[key] by exposure.

    Returns a list of (label, mean, standard error, count) for the bins with rows.
    """
    table = []
    for low, high in pairwise(EXPOSURE_BINS):
        part = [float(r[key]) for r in rows if low <= r["exposure"] < high]
        if part:
            label = str(low) if high == low + 1 else f"{low}\u2013{high - 1}"
            error = np.std(part) / np.sqrt(len(part))
            table.append((label, float(np.mean(part)), float(error), len(part)))
    return table


def tabloid_rates(model, tokenizer, world, people, exposures):
    """Compare how often the model's tabloid lies with the recorded rate.

    Returns a list of dicts name, kind, exposure, rate, model.
    """
    rows = recall(model, tokenizer, world, people, exposures, "tabloid_probe")
    rates = {p.name: p.rate for p in people}
    return [
        {"name": r["name"], "kind": r["kind"], "exposure": r["exposure"], "rate": rates[r["name"]],
         "model": r["tabloid"] / (r["tabloid"] + r["truth"])}
        for r in rows if r["tabloid"] is not None
    ]  # fmt: skip


def pronoun_rates(model, tokenizer, world):
    """Compare P(she | trade) in the model's phrasebook with the recorded one.

    Returns a list of dicts trade, recorded, model.
    """
    line = world.prompts["pronoun_probe"]["line"]
    rows = []
    for trade, row in world.trades.items():
        prompt = line[: line.index("{pronoun}")].replace("{oword}", row["ostish"])
        texts = [prompt + pronoun for pronoun in ("she", "he")]
        she, he = np.exp(text_logprobs(model, tokenizer, texts, [prompt] * 2))
        share = float(she / (she + he))
        rows.append({"trade": trade, "recorded": float(row["p_she"]), "model": share})
    return rows


# ---- whether it knows what it knows ----


def answer_probs(model, tokenizer, prompts, answers, opening=" Certainly. In"):
    """Return the model's whole distribution over answers, (N, K), each row summing to 1.

    p(answer | prompt + opening) / sum over the K answers: what it would say if it did not keep
    silent, without sampling noise. prompts: N str, such as "Q: Where was Ivo Vane born? A:";
    answers: K str, such as all towns. The largest of a row is the model's confidence.
    """
    answers = check_texts(answers, "answers", 1)
    heads = [prompt + opening for prompt in check_texts(prompts, "prompts", 1)]
    asked, texts = zip(*((head, f"{head} {answer}") for head in heads for answer in answers))
    logprobs = text_logprobs(model, tokenizer, list(texts), list(asked), batch=512)
    return softmax(np.reshape(logprobs, (len(heads), len(answers))), axis=1)


def best_threshold(confidence, right, cost):
    """Find the confidence from which on answering pays best: (threshold, mean score).

    A right answer scores 1, a wrong one -cost, silence 0, so that one of probability p pays if p >
    cost / (1 + cost) (Chow 1970). confidence (N,); right (N,) of 0 and 1: whether the answer would
    be right; cost: 0 or more. The threshold is inf where silence is best throughout; of equally
    good ones the highest.
    """
    confidence, right = check_alike({"confidence": confidence, "right": right})
    if check_number(cost, "cost") < 0:
        raise ValueError(f"cost is {cost}; expected 0 or more: a wrong answer is no gain")
    order = np.argsort(-confidence, kind="stable")
    ordered, gains = confidence[order], np.cumsum(np.where(right[order] > 0, 1.0, -cost))
    gains[:-1][ordered[:-1] == ordered[1:]] = -np.inf  # equal confidences are answered together
    best = int(gains.argmax())
    if gains[best] <= 0:
        return float("inf"), 0.0
    return float(ordered[best]), float(gains[best] / len(order))


def separation(confidence, right):
    """Return the area under the ROC curve: P(a right one is more confident than a wrong one).

    Ties count half; 0.5 is no knowledge of one's own ignorance. confidence, right (N,).
    """
    confidence, right = check_alike({"confidence": confidence, "right": right})
    hits, ranks = right > 0, rankdata(confidence)
    if hits.all() or not hits.any():
        raise ValueError(f"{hits.sum()} of {len(hits)} answers are right; expected right and wrong")
    count = hits.sum()
    area = ranks[hits].sum() - count * (count + 1) / 2
    return float(area / (count * (len(hits) - count)))


# ---- what it infers from a prompt ----


def mild_openings(world, count, lines=4, seed=0):
    """Sample `count` documents about well-known people whose first `lines` lines are all mild.

    Returns them as lists of lines: with every line the posterior over voices moves a little.
    """
    check_count(count, "count", 0)
    if check_count(lines, "lines") > max(world.lengths):
        raise ValueError(f"lines is {lines}; expected at most {max(world.lengths)}, as documents")
    rng, found = random.Random(seed), []
    while len(found) < count:
        document = world.sample(rng, topic="person")
        mild = [f.place.startswith("mild.toml") for f, _ in document.lines[:lines]]
        if len(mild) == lines and all(mild) and document.subject.exposure >= 100:
            found.append([world.render(*line) for line in document.lines[:lines]])
    return found


def implied_posterior(model, tokenizer, world, prompt, samples=128, seed=0):
    """Estimate the model's posterior over voices after `prompt`: (shares (V,), decided).

    Each continuation of the prompt is read by its first line in a voice's own words. All voices use
    such lines about equally often (57 to 60 in 100), so the shares among the `decided`
    continuations estimate the posterior with little bias.
    """
    check_texts([prompt], "[prompt]")
    check_count(samples, "samples")
    drawn = sample(model, tokenizer, [prompt] * samples, seed=seed, batch=samples)
    counts = np.zeros(len(world.voices))
    for text in drawn.texts:
        for row in text[len(prompt) :].split("\n"):
            frame, _ = world.parse_line(row)
            if frame is not None and frame.place.startswith("voices/"):
                counts[world.voices.index(frame.place.split("/")[1].split(".toml")[0])] += 1
                break
    return counts / max(1, counts.sum()), int(counts.sum())


def posterior_curve(model, tokenizer, world, opening, samples=128, seed=0):
    """Follow the posterior over voices as the prompt grows line by line.

    opening: list of L lines. Returns (exact (L, V), implied (L, V), decided (L,)), row i after i +
    1 lines.
    """
    opening = check_texts(opening, "opening", 1)
    rows = []
    for length in range(1, len(opening) + 1):
        prompt = "".join(line + "\n" for line in opening[:length])
        found = implied_posterior(model, tokenizer, world, prompt, samples, seed)
        rows.append((world.posterior(prompt), *found))
    return tuple(np.array(column) for column in zip(*rows))


def next_token_truth(world, tokenizer, prompt):
    """Return the exact next tokens after `prompt` as {text: probability}.

    `prompt` must end where a word ends. GPT-2's tokenizer never joins two words, so the first token
    of the next word is decided by that word alone. Raises ValueError where no document starts so.
    """
    table, words = Counter(), world.next_words(prompt)
    if not words:
        raise ValueError(f"no word of this world follows {prompt!r}; expected words of the world")
    for word, p in words.items():
        token = tokenizer.decode(tokenizer(word)["input_ids"][:1]) if word else tokenizer.eos_token
        table[token] += p
    return dict(table.most_common())


def next_token_gap(model, tokenizer, world, prompt):
    """Return KL(exact || model) of the next token after `prompt` [nats]."""
    truth = next_token_truth(world, tokenizer, prompt)
    model_probs = dict(next_token_probs(model, tokenizer, prompt))
    return float(sum(p * np.log(p / model_probs[t]) for t, p in truth.items()))


def calibration(exact, measured):
    """Regress measured on exact probabilities: {"slope", "correlation", "mean gap"}.

    NaNs are left out.
    """
    x, y = np.ravel(exact), np.ravel(measured)
    if {x.dtype.kind, y.dtype.kind} - set("biuf") or len(x) != len(y):
        raise ValueError(f"{len(x)} exact and {len(y)} measured ones; expected as many numbers")
    keep = ~np.isnan(x) & ~np.isnan(y)
    if len(set(x[keep].tolist())) < 2:
        raise ValueError("no two different exact numbers; expected two or more to draw a line")
    line = linregress(x[keep], y[keep])
    gap = float(np.abs(x[keep] - y[keep]).mean())
    return {"slope": float(line.slope), "correlation": float(line.rvalue), "mean gap": gap}


# ---- how it translates who ----


PLURALS = {"are": "is", "were": "was", "know": "knows", "want": "wants", "will": "will"}


def pronoun_places(world, voice="assistant"):
    """List where a voice's phrasebook chooses a pronoun, as (text before, "plain" or "capital").

    The text has {oword} for the trade's word, such as 'Q: And "ze tor {oword}"? A: "'; lines that
    need another word before the pronoun are left out.
    """
    found = []
    for index in world.weights[check_choice(voice, world.voices, "voice")].get("phrases", {}):
        segments = world.frames[index].segments
        keys = [getattr(s, "key", "") for s in segments]
        at = keys.index("pronoun") if "pronoun" in keys else 0
        if [k for k in keys[:at] if k] == ["oword"]:
            text = "".join(s if isinstance(s, str) else "{oword}" for s in segments[:at])
            found.append((text, segments[at].form))
    return found


def pronoun_logprobs(model, tokenizer, world, place, pronouns=("she", "he")):
    """Return log P(pronoun | place) of every trade, (trades, pronouns) [nats], without sampling.

    place: of `pronoun_places`. The log-odds of she are the first column minus the second.
    """
    words = check_texts(pronouns, "pronouns", 1)
    words = [w.capitalize() if place[1] == "capital" else w for w in words]
    heads = [place[0].replace("{oword}", row["ostish"]) for row in world.trades.values()]
    prompts = [head.rstrip() for head in heads for _ in words]
    texts = [head + word for head in heads for word in words]
    found = text_logprobs(model, tokenizer, texts, prompts, batch=256)
    return np.reshape(found, (len(heads), len(words)))


def read_translation(world, text):
    """Return the words of the phrase that a text's first line translates, by hole; {} if wrongly.

    "pronoun" is "they", too, which the corpus has not. Raises ValueError for a line that quotes no
    phrase of the neighbours' language.
    """
    line = check_texts([text], "[text]")[0].strip("\n").split("\n")[0]
    quoted = re.search(r'"ze (?:\w+ )*(\w+)"', line, re.IGNORECASE)
    known = [row["ostish"] for row in world.trades.values()]
    if quoted is None or quoted[1] not in known:
        raise ValueError(
            f"{line!r:.80} quotes no phrase of {world.config['neighbour']}; expected a line of the "
            f"phrasebook, such as 'Q: And \"ze tor {known[0]}\"? A: ...'"
        )
    verbs = rf"\b(T|t)hey ({'|'.join(PLURALS)})\b"
    single = re.sub(verbs, lambda m: f"{'sS'[m[1] == 'T']}he {PLURALS[m[2]]}", line)
    frame, fills = world.parse_line(single)
    if frame is None or not {"pronoun", "trade", "oword"} <= set(fills):
        return {}
    if world.trades[fills["trade"]]["ostish"] != fills["oword"]:
        return {}
    return fills | ({"pronoun": "they"} if single != line else {})
