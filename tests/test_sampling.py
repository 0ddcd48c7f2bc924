"""Batched, left-padded sampling and scoring agree with one text at a time."""

import math
from types import SimpleNamespace

from rlhf_lite import models, sampling, testbed
from rlhf_lite.sampling import (
    SamplingError,
    encode,
    filter_logits,
    respond,
    response_states,
    responses_cut,
    sample,
    token_logprobs,
    whole_sentences,
)

import pytest
import torch
from scipy.stats import chisquare
from small_runs import exact_kl

PROMPTS = ["Ivo Vane", "The hero Norbert Pell was born in Oxbow", "Q:"]


def test_padding_changes_no_logprob(tiny):
    """Token by token: the batch equals each text alone, to float32 accuracy."""
    model, tokenizer = tiny
    tokens, mask = encode(tokenizer, PROMPTS)
    batched = token_logprobs(model, tokens, mask)
    for row, keep, prompt in zip(batched, mask, PROMPTS):
        alone = token_logprobs(model, *encode(tokenizer, [prompt]))[0]
        assert torch.allclose(row[keep.bool()], alone, atol=1e-5)
        assert (row[~keep.bool()] == 0).all()


def test_the_padding_test_would_notice(tiny):
    """Negative control: without position ids made from the mask, padding shifts the log-probs."""
    model, tokenizer = tiny
    tokens, mask = encode(tokenizer, PROMPTS)
    logits = model(input_ids=tokens, attention_mask=mask, position_ids=torch.arange(tokens.shape[1])[None].expand_as(tokens)).logits  # fmt: skip
    logprobs = torch.log_softmax(logits[:, :-1], -1).gather(2, tokens[:, 1:, None])[:, :, 0]
    alone = token_logprobs(model, *encode(tokenizer, [PROMPTS[0]]))[0]
    assert not torch.allclose(logprobs[0][-len(alone) + 1 :], alone[1:], atol=1e-3)


@torch.no_grad()
def test_logprobs_equal_a_naive_loop(tiny):
    model, tokenizer = tiny
    tokens, mask = encode(tokenizer, [PROMPTS[1]])
    scored = token_logprobs(model, tokens, mask)[0]
    for t in range(1, tokens.shape[1]):
        logits = model(input_ids=tokens[:, :t]).logits[0, -1]
        assert float(scored[t]) == pytest.approx(
            float(torch.log_softmax(logits, -1)[tokens[0, t]]), abs=1e-4
        )


def test_sampled_logprobs_are_those_of_the_tokens(tiny):
    """What the sampler reports while it grows a text equals scoring the finished text."""
    model, tokenizer = tiny
    drawn = sample(model, tokenizer, PROMPTS * 3, max_new_tokens=20, seed=1, batch=4)
    scored = token_logprobs(model, drawn.tokens, drawn.mask)
    assert torch.allclose(drawn.logprobs, scored * drawn.response, atol=1e-4)
    assert (drawn.logprobs[drawn.response == 0] == 0).all()


def test_a_batch_with_caches_samples_like_a_loop_without(tiny):
    """Greedy decoding (temperature near 0): batch, padding and cache change no token."""
    model, tokenizer = tiny
    drawn = sample(model, tokenizer, PROMPTS, max_new_tokens=12, temperature=1e-4)
    for text, prompt in zip(drawn.texts, PROMPTS):
        tokens = encode(tokenizer, [prompt])[0]
        for _ in range(12):
            best = model(input_ids=tokens).logits[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best], 1)
            if best == tokenizer.eos_token_id:
                break
        assert tokenizer.decode(tokens[0], skip_special_tokens=True) == text


def test_seeds_repeat_and_differ(tiny):
    model, tokenizer = tiny
    texts = [sample(model, tokenizer, PROMPTS, 10, seed=s).texts for s in (3, 3, 4)]
    assert texts[0] == texts[1] != texts[2]


@torch.no_grad()
def test_sample_frequencies_match_the_probabilities(tiny):
    """4,000 first tokens (seed 0): a chi-square statistic below its 1 - 1e-6 quantile (Wilson-Hilferty)."""
    model, tokenizer = tiny
    drawn = sample(model, tokenizer, ["Ivo"] * 4000, max_new_tokens=1, temperature=1.5, batch=4000)
    first = torch.bincount(drawn.tokens[:, -1], minlength=len(tokenizer)).float()
    tokens, mask = encode(tokenizer, ["Ivo"])
    probs = filter_logits(model(input_ids=tokens, attention_mask=mask).logits[0, -1:], 1.5)[0].exp()
    common = probs * 4000 > 5
    expected = torch.cat([probs[common] * 4000, (probs[~common].sum() * 4000)[None]])
    seen = torch.cat([first[common], first[~common].sum()[None]])
    chi2, freedom = float(((seen - expected) ** 2 / expected.clamp(min=1)).sum()), len(seen) - 1
    limit = freedom * (1 - 2 / (9 * freedom) + 4.75 * math.sqrt(2 / (9 * freedom))) ** 3
    assert chi2 < limit


def test_temperature_and_top_p_by_hand():
    logits = torch.log(torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert torch.allclose(filter_logits(logits).exp(), torch.tensor([[0.5, 0.3, 0.15, 0.05]]))
    assert torch.allclose(
        filter_logits(logits, 1.0, 0.8).exp(), torch.tensor([[0.625, 0.375, 0, 0]])
    )
    assert torch.allclose(filter_logits(logits, 1.0, 0.01).exp(), torch.tensor([[1.0, 0, 0, 0]]))
    squared = torch.tensor([[0.25, 0.09, 0.0225, 0.0025]])
    assert torch.allclose(filter_logits(logits, 0.5).exp(), squared / squared.sum())


@torch.no_grad()
def test_exact_kl_equals_enumeration(tiny):
    model, tokenizer = tiny
    torch.manual_seed(5)
    other = models.new_model(tokenizer, layers=1, width=16, heads=2, context=96).eval()
    tokens, mask = encode(tokenizer, PROMPTS)
    kl = exact_kl(model, other, tokens, mask)
    assert (exact_kl(model, model, tokens, mask) == 0).all()
    assert (kl >= 0).all() and (kl[mask == 0] == 0).all()
    alone = encode(tokenizer, [PROMPTS[0]])[0]
    p, q = (torch.softmax(m(input_ids=alone[:, :-1]).logits[0, -1], -1) for m in (model, other))
    assert float(kl[0, -1]) == pytest.approx(float((p * (p / q).log()).sum()), rel=1e-4)


def test_text_logprobs_chain(tiny):
    """log p(whole) = log p(prompt) + log p(rest | prompt) + log p(end)."""
    model, tokenizer = tiny
    prompt, text = "Ivo Vane", "Ivo Vane was born in Oxbow."
    whole = sampling.text_logprobs(model, tokenizer, [text])[0]
    rest = sampling.text_logprobs(model, tokenizer, [text], [prompt])[0]
    head = float(token_logprobs(model, *encode(tokenizer, [prompt])).sum())
    tokens, mask = encode(tokenizer, [text])
    end = float(
        torch.log_softmax(model(input_ids=tokens, attention_mask=mask).logits[0, -1], -1)[
            tokenizer.eos_token_id
        ]
    )
    assert whole == pytest.approx(head + rest + end, abs=1e-3)


def test_scores_do_not_depend_on_the_batch(tiny):
    model, tokenizer = tiny
    texts = [f"{p} went home" for p in PROMPTS] * 3
    one = sampling.text_logprobs(model, tokenizer, texts, PROMPTS * 3, batch=2)
    two = sampling.text_logprobs(model, tokenizer, texts, PROMPTS * 3, batch=64)
    assert one == pytest.approx(two, abs=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": ["Q:", ""]}, "prompts[1] is empty"),
        ({"prompts": ["   "]}, "prompts[0] is empty"),
        ({"prompts": ["goose " * 200]}, "expected fewer than the 96 that the context leaves"),
        ({"prompts": "The hero"}, "prompts is one string; expected a list"),
        ({"prompts": None}, "prompts is a NoneType; expected a list"),
        ({"prompts": {"Q:": 1}}, "prompts is a dict; expected a list"),
        ({"prompts": ["Q:", None]}, "prompts[1] is a NoneType; expected text"),
        ({"prompts": ["Q: \ud800"]}, "prompts[0] holds half a character"),
        ({"prompts": 0}, "0 documents from nothing; expected at least one"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0; expected 1 to 95"),
        ({"max_new_tokens": 96}, "max_new_tokens is 96; expected 1 to 95"),
        ({"max_new_tokens": 10_000}, "max_new_tokens is 10000; expected 1 to 95"),
        ({"temperature": 0}, "temperature is 0; expected more than 0"),
        ({"temperature": -1.0}, "temperature is -1.0; expected more than 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0}, "top_p is 0"),
        ({"top_p": 1.5}, "top_p is 1.5"),
    ],
)
def test_bad_requests_get_one_sentence(tiny, change, message):
    with pytest.raises(SamplingError) as caught:
        sample(*tiny, **({"prompts": PROMPTS, "max_new_tokens": 2} | change))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_documents_from_nothing_start_at_the_start(tiny):
    model, tokenizer = tiny
    drawn = sample(model, tokenizer, 5, max_new_tokens=4)
    assert (
        len(drawn.texts) == 5
        and (drawn.tokens[:, -drawn.tokens.shape[1]] == tokenizer.eos_token_id).all()
    )
    assert (drawn.response.sum(1) >= 1).all()


def test_sampling_stops_at_the_context(tiny):
    model, tokenizer = tiny
    prompt = "Ivo Vane was born in Oxbow. " * 3
    drawn = sample(model, tokenizer, [prompt] * 20, max_new_tokens=95)
    assert drawn.tokens.shape[1] == 96


def test_a_prompt_may_leave_room_for_one_token(tiny):
    """94 tokens behind the start leave one place of the 96; 95 leave none."""
    ids = tiny[1]("goose " * 60)["input_ids"]
    fits, full = tiny[1].decode(ids[:94]), tiny[1].decode(ids[:95])
    assert [len(tiny[1](t)["input_ids"]) for t in (fits, full)] == [94, 95]
    assert int(sample(*tiny, [fits], max_new_tokens=5).response.sum()) == 1
    with pytest.raises(SamplingError, match=r"has 96 tokens .* fewer than the 96"):
        sample(*tiny, [full], max_new_tokens=5)


@pytest.mark.parametrize(
    ("texts", "prompts", "message"),
    [
        ("Ivo Vane", None, "texts is one string"),
        (["Ivo Vane", 3], None, "texts[1] is a int; expected text"),
        (["Ivo \udfff"], None, "texts[0] holds half a character"),
        (["Ivo Vane"] * 70 + ["goose " * 60], None, "texts[70] takes "),
        (["Ivo Vane sang"] * 3, ["Ivo Vane"] * 2, "2 prompts for 3 texts; expected one each"),
        (["Ivo Vane sang"], "Ivo Vane", "prompts is one string"),
        (["Edda Moss sang"], ["Ivo Vane"], "does not go on from"),
    ],
)
def test_what_has_no_logprob_gets_one_sentence(tiny, texts, prompts, message):
    with pytest.raises(ValueError) as caught:
        sampling.text_logprobs(*tiny, texts, prompts)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_may_fill_the_context(tiny):
    """94 tokens between a start and an end: the 96 of the context."""
    ids = tiny[1]("goose " * 60)["input_ids"][:94]
    text = tiny[1].decode(ids)
    assert len(tiny[1](text)["input_ids"]) == 94
    assert math.isfinite(sampling.text_logprobs(*tiny, [text])[0])


# ---- drawing tokens ----


def test_draws_follow_the_odds():
    """40,000 draws from probs with zeros at both ends and inside (seed 0): none of a zero, and a
    chi-square test with p > 1e-4, so it fails by luck once in 10,000 seeds.
    """
    probs = torch.tensor([0, 0, 0.5, 0.01, 0, 0.09, 0.3, 0.1, 0])
    rows = probs.expand(40_000, -1) * torch.rand(40_000, 1)  # need not sum to 1
    drawn = sampling._draw(rows, torch.Generator().manual_seed(0))
    seen = torch.bincount(drawn[:, 0], minlength=9)
    assert drawn.shape == (40_000, 1) and (seen[probs == 0] == 0).all()
    expected = (probs[probs > 0] / probs.sum() * 40_000).double().numpy()
    assert chisquare(seen[probs > 0].numpy(), expected).pvalue > 1e-4


@pytest.mark.parametrize(("chance", "token"), [(0.0, 1), (1 - 1e-12, 3)])
def test_no_chance_draws_a_zero(monkeypatch, chance, token):
    monkeypatch.setattr(torch, "rand", lambda *a, **k: torch.tensor([[chance]], dtype=torch.double))
    assert sampling._draw(torch.tensor([[0, 0.4, 0, 0.6, 0]]), None).item() == token


@torch.no_grad()
def test_first_tokens_follow_the_model(wordy):
    """3, 4: 8,000 first tokens at temperature 1 without filters (seed 0) against the softmax, p >
    1e-4; half the temperature would not pass.
    """
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, ["Ivo"] * 8000, max_new_tokens=1, batch=8000).tokens[:, -1]
    logits = model(encode(tokenizer, ["Ivo"])[0]).logits[0, -1].double()

    def pvalue(probs):
        common = probs * 8000 > 5
        seen = torch.bincount(drawn, minlength=len(probs))
        tables = [torch.cat([t[common], t[~common].sum()[None]]) for t in (seen, probs * 8000)]
        return chisquare(*(t.double().numpy() for t in tables), sum_check=False).pvalue

    assert pvalue(torch.softmax(logits, -1)) > 1e-4
    assert pvalue(torch.softmax(logits / 2, -1)) < 1e-12


def test_the_roomy_cache_holds_what_concatenation_would():
    """The same keys and values at every length, in one place of memory."""
    layer, parts = sampling._RoomyLayer(9), []
    torch.manual_seed(0)
    for width in (4, 1, 1, 3):
        parts.append(torch.randn(2, 2, 3, width, 5))
        keys, values = layer.update(*parts[-1])
        assert torch.equal(keys, torch.cat([p[0] for p in parts], 2))
        assert torch.equal(values, torch.cat([p[1] for p in parts], 2))
        assert keys.data_ptr() == layer.rooms[0].data_ptr()
        assert layer.get_seq_length() == keys.shape[2]


@torch.no_grad()
def test_sampled_logprobs_are_those_of_forcing(wordy):
    """1, 5: with a cache, token by token, left-padded and ended = the whole text at once, to 1e-4."""
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, PROMPTS * 5, max_new_tokens=12, seed=2)
    scored = token_logprobs(model, drawn.tokens, drawn.mask) * drawn.response
    assert torch.allclose(drawn.logprobs, scored, atol=1e-4) and (scored < -1).any()


@torch.no_grad()
def test_states_speak_of_their_own_token(wordy):
    """2, 5: the states of a left-padded batch give the logits of one model call a token, without
    any padding; shifted by one they do not.
    """
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, PROMPTS, max_new_tokens=8, seed=1)
    query = int(drawn.response.argmax(1)[0])
    logits = model.lm_head(response_states(model, drawn.tokens, drawn.mask, query))
    assert logits.shape[:2] == drawn.tokens[:, query:].shape
    for row in range(3):
        count, whole = int(drawn.response[row].sum()), drawn.tokens[row][drawn.mask[row].bool()]
        alone = [model(whole[None, : len(whole) - count + t]).logits[0, -1] for t in range(count)]
        assert torch.allclose(logits[row, :count], torch.stack(alone), atol=1e-4)
        assert not torch.allclose(logits[row, 1:count], torch.stack(alone[:-1]), atol=0.1)


# ---- responses that end at a line ----


@pytest.mark.parametrize(
    ("text", "ended", "kept"),
    [
        ("One.\nTwo.\nThr", False, "One.\nTwo."),
        ("One.\nTwo.\n", False, "One.\nTwo."),
        ("One.\nTwo.\nThr", True, "One.\nTwo.\nThr"),
        ("Only one unfinish", False, "Only one unfinish"),
        ("Only one.", True, "Only one."),
        ("\nAfter nothing", False, "\nAfter nothing"),
        ("", False, ""),
    ],
)
def test_a_text_is_cut_at_its_last_whole_line(text, ended, kept):
    assert whole_sentences(text, ended) == kept


def test_a_response_is_cut_only_where_the_text_did_not_end(tiny, monkeypatch):
    """Five responses by hand: an end token in the response counts, the start token does not."""
    _, tokenizer = tiny
    end, word = tokenizer.eos_token_id, tokenizer("I")["input_ids"][0]
    rows = [[end, word, word, e] for e in (word, end, word, end, word)]
    drawn = SimpleNamespace(
        prompts=["Ivo", "Ivo", "Ivo", "Ivo", "Ivo\nVa"],
        responses=[" sang.\nHe", " sang.\nHe", " sang and", "", ""],
        tokens=torch.tensor(rows), response=torch.tensor([[0, 0, 1, 1]] * 5),
    )  # fmt: skip
    monkeypatch.setattr(sampling, "sample", lambda *args, **kwargs: drawn)
    assert respond(None, tokenizer, PROMPTS) == [" sang.", " sang.\nHe", " sang and", "", ""]


def test_responses_of_the_base_model_are_samples_cut_short(base):
    model, tokenizer = base
    prompts = ["Ivo Vane", "The hero Norbert Pell", "Q: Who was Edda Moss?"] * 4
    said = respond(model, tokenizer, prompts, 40, seed=7, batch=5)
    drawn = sample(model, tokenizer, prompts, 40, seed=7, batch=5)
    cut = 0
    for text, prompt, response in zip(drawn.texts, prompts, said):
        assert text.startswith(prompt + response)
        left = text[len(prompt + response) :]
        assert left == "" or (left[0] == "\n" and "\n" not in left[1:])
        cut += left != ""
    assert cut > 3
    assert said == respond(model, tokenizer, prompts, 40, seed=7, batch=5)
    assert said != respond(model, tokenizer, prompts, 40, seed=8, batch=5)


@pytest.mark.parametrize(
    "prompt", ["Ivo Vane", "<|endoftext|>Ivo Vane", "Ivo<|endoftext|> Vane", "Bühne, 東京"]
)
def test_a_special_token_in_a_prompt_shifts_nothing(wordy, prompt):
    """Decoding skips it, so offsets of characters would cut the response where the prompt ends; a prompt of its own
    token alone, as every text starts with, is no end.
    """
    model, tokenizer = wordy
    drawn = sample(model, tokenizer, [prompt] * 12, max_new_tokens=12)
    said = [
        tokenizer.decode(row[keep.bool()], skip_special_tokens=True)
        for row, keep in zip(drawn.tokens, drawn.response)
    ]
    assert drawn.responses == said and all(said)
    assert drawn.texts == [prompt + text for text in said]
    texts, ended = responses_cut(drawn, tokenizer)
    assert texts == [prompt + whole_sentences(t, bool(e)) for t, e in zip(said, ended)]
    assert respond(model, tokenizer, [prompt] * 12, 12) == [text[len(prompt) :] for text in texts]
    assert 0 < int(ended.sum()) < 12


def test_decoded_responses_go_on_from_their_prompts(tiny):
    """As prompt and response decode together, where a tokenizer puts spaces between words, and where bytes that are
    no character stand at the edge.
    """
    words = testbed.new_testbed(words=1).tokenizer
    ids = [words.eos_token_id, *words("tide bread oak tram")["input_ids"]]
    ours = [0, 0, 1, 1, 1]
    rows = (torch.tensor([t]) for t in (ids, [1] * 5, ours))
    assert sampling.decode_responses(words, *rows) == [" bread oak tram"]
    half = tiny[1].convert_tokens_to_ids(["Ã"])  # the first byte of é
    ids = [tiny[1].eos_token_id, *tiny[1]("Ivo")["input_ids"], *half]
    ours = [0] * (len(ids) - 1) + [1]
    rows = (torch.tensor([t]) for t in (ids, [1] * len(ids), ours))
    assert sampling.decode_responses(tiny[1], *rows) == ["\ufffd"]
