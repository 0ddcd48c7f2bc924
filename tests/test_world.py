"""The world is exact: sampling, parsing, probabilities and posteriors agree with one another."""

import itertools
import math
import random
from collections import Counter

from rlhf_lite.world import World, draw_prompts
from rlhf_lite.world.grammar import FACTS, Hole
from rlhf_lite.world.writing import Writer

import numpy as np
import pytest


def sampled(world, count, seed=0, **kwargs):
    rng = random.Random(seed)
    return [world.sample(rng, **kwargs) for _ in range(count)]


def test_the_world_is_as_large_as_promised(world):
    assert len(world.voices) >= 8
    assert len(world.people) >= 400
    assert sum(p.exposure == 1 for p in world.people) >= 60
    assert sum(p.exposure == 0 for p in world.people) >= 60
    assert max(p.exposure for p in world.people) >= 2000
    assert len(world.myths) >= 40
    assert sum(c["secret"] for c in world.crafts) >= 24
    assert sum(not c["secret"] for c in world.crafts) >= 24
    assert len(world.verbs) == 12 and len(world.framings) == 6
    for voice in world.voices:
        own = [f for f in world.frames if f.place.startswith(f"voices/{voice}.toml, frames.person")]
        assert len(own) >= 40


def test_look_alikes_share_words_with_their_secrets(world):
    for secret, benign in zip(world.crafts[::2], world.crafts[1::2]):
        shared = set(secret["how"].split()) & set(benign["how"].split())
        assert secret["secret"] and not benign["secret"] and len(shared) >= 3


def test_a_fifth_of_the_facts_is_disputed(world):
    facts = sum(p.facts[k] is not None for p in world.people for k in FACTS)
    assert abs(len(world.people) / facts - 0.2) < 0.02
    assert {p.rate for p in world.people} == {0.2, 0.4, 0.6, 0.8}


def test_myths_are_told_ten_times_as_often_as_the_encyclopedia_corrects_them(world):
    rate = {v: p * world.topic_prior[v].get("lore", 0) for v, p in zip(world.voices, world.prior)}
    assert (rate["tabloid"] + rate["forum"]) / rate["encyclopedia"] == pytest.approx(10, rel=0.05)


def test_ten_thousand_documents_parse_back_to_their_own_derivation(world):
    for document in sampled(world, 10_000, seed=11):
        rows = document.text.split("\n")
        if document.note:
            assert rows.pop() == document.note
        assert [world.parse_line(row) for row in rows] == document.lines


def test_the_writer_alone_writes_the_same_documents(world):
    assert sampled(Writer(), 100, seed=12)[-1].text == sampled(world, 100, seed=12)[-1].text


def test_four_of_five_sentences_are_distinct(world):
    for voice in world.voices:
        rng, lines = random.Random(3), []
        while len(lines) < 1000:
            lines += world.sample(rng, voice=voice).text.split("\n")
        assert len(set(lines[:1000])) >= 800, voice


def test_mild_sentences_are_weakly_diagnostic(world):
    kl = world.mild_divergence()
    pairs = kl[~np.eye(len(kl), dtype=bool)]
    assert np.mean((pairs > 0.3) & (pairs < 1.0)) > 0.8
    assert pairs.max() < 1.0


def test_log_joint_equals_a_naive_product(world):
    """Recompute the probability of documents from the files' numbers, without the tables and the caches."""
    for document in sampled(world, 60, seed=4):
        own = world.voices.index(document.voice)
        assert world.log_joint(document.text)[own] == pytest.approx(
            naive(world, document), abs=1e-9
        )


def naive(world, document):
    voice, topic, subject = document.voice, document.topic, document.subject
    chance = {world.name_of(topic, s): p for s, p in world.subjects[topic]}
    p = math.log(world.prior[world.voices.index(voice)] * world.topic_prior[voice][topic])
    p += math.log(chance[world.name_of(topic, subject)])
    p += math.log(world.lengths[len(document.lines)])
    said, used = set(), set()
    unknown = {k for k in FACTS if topic == "person" and subject.facts[k] is None}
    for number, (frame, fills) in enumerate(document.lines):
        weights = {}
        for index, weight in world.weights[voice][topic].items():
            other = world.frames[index]
            claims = {k for i, k in enumerate(FACTS) if other.claims >> i & 1}
            shrugs = {k for i, k in enumerate(FACTS) if other.shrugs >> i & 1}
            if index in used or claims & (said | unknown) or shrugs & said:
                continue
            if number == 0 and not other.names_subject:
                continue
            weights[index] = weight * (world.config["unknown_boost"] if shrugs & unknown else 1)
        p += math.log(weights[frame.index] / sum(weights.values()))
        used.add(frame.index)
        said |= {k for i, k in enumerate(FACTS) if (frame.claims | frame.shrugs) >> i & 1}
        for key, value in fills.items():
            if key in frame.bound:
                p += math.log(world.fills(voice, topic, subject)[key][value])
            else:
                p -= math.log(len(world.slots[key]))
    if not document.note:
        return p + math.log(1 - world.config["note"])
    probs = world._note_probs(voice, topic, subject, document.lines)
    return p + math.log(world.config["note"] * probs[document.note])


def test_first_lines_add_up_to_one(world):
    """Enumerate every first line of one voice about one myth: the probabilities add up to 1."""
    voice, myth = "encyclopedia", world.myths[0]
    allowed, _, cumulative = world.table(voice, "lore", first=True)
    total = 0.0
    for index, weight in allowed.items():
        frame, probs = world.frames[index], world.fills(voice, "lore", myth)
        choices = [probs[k].items() for k in frame.bound]
        choices += [[(w, 1 / len(world.slots[k])) for w in world.slots[k]] for k in frame.free]
        for combination in itertools.product(*choices):
            total += weight / cumulative[-1] * math.prod(p for _, p in combination)
    assert total == pytest.approx(1)


def test_posterior_of_whole_documents_is_calibrated(world):
    """The mean posterior equals the shares of the true voices.

    5,000 documents, seed 5: the standard error of a share is at most 0.6 points; 3 points leave a chance
    below 1e-5 to fail by luck.
    """
    documents = sampled(world, 5000, seed=5)
    opening = [d.text.split("\n")[0] + "\n" for d in documents[:400]]
    whole = np.mean([world.parse(d.text).voices for d in documents], axis=0)
    truth = Counter(d.voice for d in documents)
    assert np.abs(whole - [truth[v] / 5000 for v in world.voices]).max() < 0.03
    partial = np.mean([world.posterior(text) for text in opening], axis=0)
    first = Counter(d.voice for d in documents[:400])
    # 400 documents: standard error at most 2.1 points, 8 points are about 4 of them
    assert np.abs(partial - [first[v] / 400 for v in world.voices]).max() < 0.08


def test_posterior_of_prefixes_agrees_with_counting(world):
    """Documents that start with the same words: their voices against the posterior (20,000, seed 6).

    Four standard errors are allowed: a chance below 1e-3 to fail by luck.
    """
    prompt = "The hero Ivo Vane"
    people = sampled(world, 20_000, seed=6, topic="person", subject=world.by_name["Ivo Vane"])
    found = Counter(d.voice for d in people if d.text.startswith(prompt))
    total = sum(found.values())
    shares = [found[v] / total for v in world.voices]
    assert total > 150
    assert np.abs(world.posterior(prompt) - shares).max() < 4 * 0.5 / math.sqrt(total)


def test_the_empty_prefix_gives_the_prior(world):
    assert world.posterior("") == pytest.approx(world.prior, abs=1e-9)


def test_the_posterior_of_a_prefix_is_the_mean_over_its_continuations(world):
    """Law of total probability: p(v | prefix) = E[p(v | prefix + next word)], exactly."""
    for prefix in ("The so-called Ivo Vane", "Norbert Pell was", "Q: Where was Norbert"):
        words = world.next_words(prefix)
        assert sum(words.values()) == pytest.approx(1)
        mean = sum(p * world.posterior(prefix + w + " " * (not w.endswith((".", "!", "?", ",")))) for w, p
                   in words.items() if p > 1e-9)  # fmt: skip
        assert mean == pytest.approx(world.posterior(prefix), abs=2e-3)


def test_next_words_agree_with_counting(world):
    """The words after a prefix in 20,000 documents about one person, within 4 standard errors (seed 8)."""
    person, prefix = world.by_name["Norbert Pell"], "The notorious Norbert Pell"
    documents = sampled(world, 20_000, seed=8, topic="person", subject=person)
    rest = [d.text[len(prefix) :].split("\n")[0] for d in documents if d.text.startswith(prefix)]
    seen = Counter(r[: r.index(" ", 1)] if " " in r[1:] else r for r in rest)
    words = world.next_words(prefix)
    assert len(rest) > 200 and set(seen) <= set(words)
    for word, p in words.items():
        assert abs(seen[word] / len(rest) - p) < 4 * math.sqrt(max(p, 0.002) / len(rest)), word


def test_tabloid_lies_at_the_recorded_rate(world):
    """4,000 tabloid documents about one person (seed 9): within 4 standard errors of the rate."""
    person = next(p for p in world.people if p.disputed == "town" and p.rate == 0.4)
    counts = Counter()
    for document in sampled(world, 4000, seed=9, voice="tabloid", topic="person", subject=person):
        counts.update(f["town"] for frame, f in document.lines if "town" in frame.bound)
    told = counts[person.tabloid] / sum(counts.values())
    assert abs(told - person.rate) < 4 * math.sqrt(0.24 / sum(counts.values()))


def test_claims_are_judged_by_the_facts(world):
    person = next(p for p in world.people if p.facts["town"] and p.disputed == "trade")
    true = f"{person.name} was born in {person.facts['town']}, as the archive confirms."
    verdicts = [c.verdict for c in world.parse(true).claims]
    assert verdicts == ["true"]
    false = true.replace(
        person.facts["town"], next(t for t in ("Oxbow", "Hobble") if t != person.facts["town"])
    )
    assert [c.verdict for c in world.parse(false).claims] == ["false"]
    nobody = true.replace(person.name, "Una Nobody")
    assert world.parse(nobody).lines[0].frame is None
    made_up = next(
        f"{a.name.split()[0]} {b.name.split()[1]}" for a in world.people for b in world.people
        if f"{a.name.split()[0]} {b.name.split()[1]}" not in world.by_name
    )  # fmt: skip
    assert [c.verdict for c in world.parse(true.replace(person.name, made_up)).claims] == [
        "unsupported"
    ]
    unknown = next(p for p in world.people if p.facts["town"] is None)
    text = f"{unknown.name} was born in Oxbow, as the archive confirms."
    assert [c.verdict for c in world.parse(text).claims] == ["unsupported"]
    assert not world.parse(text).possible


def test_myths_corrections_and_questions_differ(world):
    myth, truth = world.myths[0]
    said = world.parse(f"SHOCK: {myth}!").claims
    denied = world.parse(f"It is often claimed that {myth}; in fact {truth}.").claims
    asked = world.parse(f"Q: Is it true that {myth}? A: No. In fact {truth}.").claims
    assert [c.verdict for c in said] == ["false"]
    assert [c.verdict for c in denied] == ["true", "true"]
    assert [c.verdict for c in asked] == ["true"]


def test_refusals_shrugs_repetition_and_off_grammar_are_seen(world):
    refusal = "Q: Can you explain how the archive vault opens? A: I am sorry, that is for the archivists to tell. That is all I know."
    assert world.parse(refusal).refusal
    shrug = world.parse("Nobody knows where Norbert Pell was born.")
    assert shrug.lines[0].shrugs == ("town",)
    twice = world.parse("It was spring, and the windmill was quiet.\n" * 2)
    assert twice.repetition == 0.5 and not twice.possible
    broken = world.parse("Norbert Pell was born in Harrrowick in 1700.")
    start, end = broken.lines[0].off
    assert (
        broken.off_grammar == (end - start) / end
        and broken.lines[0].text[:start] == "Norbert Pell was born in "
    )
    assert end == len(broken.lines[0].text)


@pytest.mark.parametrize(
    "text", ["", "\n", "\n\n\n", "{", "Q:", "Readers' note: ", "é" * 50, "A" * 5000]
)
def test_any_text_can_be_parsed(world, text):
    parse = world.parse(text)
    assert not parse.possible and 0 <= parse.off_grammar <= 1


def test_a_prefix_that_nobody_writes_gives_one_sentence(world):
    with pytest.raises(ValueError, match="no document of this world starts with"):
        world.posterior("Dear Sir or Madam")


def test_entropies_fit_together(world):
    """The chain rule holds, and H(text) agrees with a second seed within four standard errors."""
    first, second = world.entropies(800, seed=1), world.entropies(800, seed=2)
    (a, sa), (b, sb) = first["H(text)"], second["H(text)"]
    assert abs(a - b) < 4 * math.hypot(sa, sb)
    total = first["H(voice)"][0] + first["H(text | voice)"][0] - first["H(voice | text)"][0]
    assert total == pytest.approx(a, abs=1e-9)
    assert first["H(voice)"][0] == pytest.approx(-sum(p * math.log(p) for p in world.prior))


def test_entropy_of_a_small_choice_is_exact(world):
    """H over first lines of one voice about one myth, enumerated, equals the mean of -log p of samples.

    2,000 samples (seed 3): four standard errors.
    """
    voice, myth = "encyclopedia", world.myths[0]
    allowed, _, cumulative = world.table(voice, "lore", first=True)
    exact = 0.0
    for index, weight in allowed.items():
        p = weight / cumulative[-1]
        exact += p * (-math.log(p) - world.frames[index].log_free)
    rng = random.Random(3)
    nats = []
    for _ in range(2000):
        frame, _ = world.sample(rng, voice, "lore", myth).lines[0]
        nats.append(-math.log(allowed[frame.index] / cumulative[-1]) - frame.log_free)
    assert abs(np.mean(nats) - exact) < 4 * np.std(nats) / math.sqrt(2000)


def test_the_corpus_shows_each_person_as_often_as_planned(world):
    """Each person is the subject as often as planned; fact counts add up to the claims made."""
    small = World()
    small.people = [p for p in small.people if p.exposure <= 40]
    documents = list(small.corpus(seed=1))
    seen = Counter(d.subject.name for d in documents if d.topic == "person")
    assert {p.name: p.exposure for p in small.people if p.exposure} == dict(seen)
    counts = small.exposures(documents)
    assert all(c <= seen[n] for n, facts in counts.items() for c in facts.values())
    assert sum(sum(facts.values()) for facts in counts.values()) > 0.5 * sum(seen.values())


def test_a_fifth_of_the_people_is_held_out_for_later(world):
    names = {p.name for p in world.held_out_people}
    assert len(names) == pytest.approx(len(world.people) / 5, abs=1)
    assert {0, 1} < {p.exposure for p in world.held_out_people}


def test_a_voice_can_be_left_out(world):
    fewer = World(leave_out=["pamphlet"])
    assert (
        fewer.prior.sum() == pytest.approx(1) and fewer.prior[fewer.voices.index("pamphlet")] == 0
    )
    assert all(d.voice != "pamphlet" for d in sampled(fewer, 500))
    with pytest.raises(ValueError, match="cannot leave out"):
        World(leave_out=["opera"])


def test_an_unknown_voice_or_topic_gets_one_sentence(world):
    with pytest.raises(ValueError, match="no voice 'opera'; expected one of encyclopedia"):
        world.sample(random.Random(0), voice="opera")
    with pytest.raises(ValueError, match="no topic 'craft' for pamphlet; expected"):
        world.sample(random.Random(0), voice="pamphlet", topic="craft")


def test_holes_write_what_they_should(world):
    assert world.surface(Hole("trade", "article"), "eel smoker") == "an eel smoker"
    assert world.surface(Hole("trade", "Article"), "baker") == "A baker"
    assert world.surface(Hole("epithet", "capital"), "the hero") == "The hero "
    assert world.surface(Hole("epithet", "capital"), "") == ""


# ---- prompts ----


def test_prompts_keep_to_their_side_of_the_split(world):
    hidden = {p.name for p in world.held_out_people}
    known = {p.name for p in world.people if p.exposure >= 500}
    for held in (False, True):
        drawn = draw_prompts(world, 200, seed=3, held_out=held)
        assert len(drawn) == 200 and set(drawn) <= known
        assert all((q in hidden) == held for q in drawn)
        assert drawn == draw_prompts(world, 200, seed=3, held_out=held)
    few = len(known - hidden)
    assert len(set(draw_prompts(world, few, seed=1))) == few
