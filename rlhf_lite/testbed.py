"""List every answer of a tiny policy, so that its distance from the optimum has no error.

The testbed is a GPT-2 that answers in three words; on it pi*, both KLs and the entropy within a
voice are sums, not estimates. Omits sampling and training: a Testbed has a model, prompts and a
score, which is all that a PolicyRun asks for. Taught by notebooks 04, 05 and 13.
"""

from dataclasses import dataclass, replace
from numbers import Integral

from rlhf_lite.checks import check_texts
from rlhf_lite.models import END, PAD, new_model
from rlhf_lite.optimum import OptimumError, check_scores

import numpy as np
import torch
from scipy.special import logsumexp
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

# One row a voice: the first word of an answer decides its voice.
WORDS = (
    "tide gull mast harbour sail rope anchor storm pier shell wave net",
    "bread oven salt spoon butter plum kettle flour pepper jam bowl feast",
    "oak moss fern owl brook root path fox bark leaf stone",
    "tram lamp clerk bell market coin roof poster ladder bridge crowd",
)
PROMPTS = ("tide", "bread", "oak", "tram")
LENGTH = 3  # words in an answer
UNLIKELY = -48.0  # logit that keeps a token out: e^-48 of the probability


@dataclass(frozen=True)
class Testbed:
    """A tiny GPT-2 that answers in exactly three of W words, and a score of each answer.

    model, tokenizer: the base policy; words: W str; prompts: P str; scores (P, S): mean 0 and sd 1
    under the base, or any others by `dataclasses.replace`; voices (S,): the voice 0 to 3 of each
    answer, decided by its first word; base_logprobs (P, S) [nats]. Answer s is the words s // W^2,
    s // W % W and s % W, so S = W^3.
    """

    model: GPT2LMHeadModel
    tokenizer: PreTrainedTokenizerFast
    words: tuple
    prompts: tuple
    scores: np.ndarray
    voices: np.ndarray
    base_logprobs: np.ndarray

    def score(self, texts):
        """Look up the score of each text, a prompt and three words: float32 tensor (N,)."""
        texts = check_texts(texts)
        found = [self.scores[self.place(text, number)] for number, text in enumerate(texts)]
        return torch.tensor(np.array(found), dtype=torch.float32)

    def place(self, text, number=0):
        """Return (prompt, answer) of a text as numbers, where its score stands in `scores`.

        number: of the text, for the message of the OptimumError where it is none of the testbed's.
        """
        prompt, *said = text.split() or [""]
        known = prompt in self.prompts and len(said) == LENGTH
        if not known or not set(said) <= set(self.words):
            raise OptimumError(
                f"text {number} is {text!r}; expected one of {', '.join(self.prompts)} "
                f"and {LENGTH} words of the testbed"
            )
        at = [self.words.index(word) for word in said]
        return self.prompts.index(prompt), int(np.ravel_multi_index(at, self._shape))

    def sequence_logprobs(self, model):
        """Return the exact log pi(answer | prompt) of all answers, float64 tensor (P, S) [nats].

        log pi(y) = sum_t log pi(y_t | y_<t) from one pass over the W^2 first two words of each
        prompt. Gradients flow, unless under torch.no_grad().
        """
        return torch.stack([self._enumerate(model, prompt) for prompt in self.prompts])

    @property
    def _shape(self):
        return (len(self.words),) * LENGTH

    def _enumerate(self, model, prompt):
        """Return log pi of all answers to one prompt, (S,)."""
        count = len(self.words)
        ids = torch.tensor(self.tokenizer(" ".join(self.words))["input_ids"])
        start = torch.tensor([self.tokenizer.eos_token_id, *self.tokenizer(prompt)["input_ids"]])
        tokens = torch.cat([start.expand(count**2, -1), torch.cartesian_prod(ids, ids)], 1)
        logits = model(input_ids=tokens.to(model.device)).logits[:, -LENGTH:].double().cpu()
        logprobs = torch.log_softmax(logits, -1)[..., ids]  # (W^2, 3, W)
        first, second = logprobs[0, 0], logprobs[::count, 1]
        third = logprobs[:, 2].view(self._shape)
        return (first[:, None, None] + second[:, :, None] + third).flatten()


def new_testbed(seed=0, words=12):
    """Make a Testbed, e.g. `new_testbed(words=3)`; the same seed gives the same one.

    words: how many words a voice has at most, 1 to 12; 12 make 46 words and 97,336 answers.
    """
    if not isinstance(words, Integral) or not 1 <= words <= 12:
        raise OptimumError(f"words is {words}; expected 1 to 12 words a voice")
    rows = [row.split()[:words] for row in WORDS]
    names = tuple(name for row in rows for name in row)
    voices = np.repeat(np.arange(len(rows)), [len(row) * len(names) ** 2 for row in rows])
    tokenizer = _tokenizer(names)
    model = _random_policy(tokenizer, seed)
    bed = Testbed(model, tokenizer, names, PROMPTS, None, voices, None)
    with torch.no_grad():
        base = bed.sequence_logprobs(model).numpy()
    scores = _random_scores(np.exp(base), len(names), seed)
    return replace(bed, scores=scores, base_logprobs=base)


def _tokenizer(names):
    """Make a tokenizer of one token a word."""
    words = Tokenizer(WordLevel({name: i for i, name in enumerate((END, PAD, *names))}))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token=END, eos_token=END, pad_token=PAD,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


@torch.no_grad()
def _random_policy(tokenizer, seed):
    """Make a GPT-2 with large random weights that gives the end and pad tokens no probability."""
    model = new_model(tokenizer, layers=2, width=32, heads=2, context=8).eval()
    # A head of its own, so that a word does not make itself likely to come again.
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.clone())
    model.config.tie_word_embeddings = False
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight.normal_(0, 0.3, generator=generator)
    # One unit of the last layer norm is always 1, and only the two special tokens listen to it.
    final, head = model.transformer.ln_f, model.lm_head.weight
    final.weight[0], final.bias[0], head[:, 0] = 0, 1, 0
    head[[tokenizer.eos_token_id, tokenizer.pad_token_id], 0] = UNLIKELY
    return model


def _random_scores(base, words, seed):
    """Draw scores (P, S) of word effects and effects of neighbours, standardised under the base."""
    rng = np.random.default_rng(seed)
    shape = (len(base), words)
    a, b, c = (rng.normal(size=shape) for _ in range(LENGTH))
    left, right = rng.normal(size=(2, words, 4)) / 2  # two words suit each other by four traits
    pairs = left @ right.T
    table = (
        a[:, :, None, None] + b[:, None, :, None] + c[:, None, None, :]
        + pairs[None, :, :, None] + pairs[None, None, :, :]
    ).reshape(len(base), -1)  # fmt: skip
    table -= (base * table).sum(1, keepdims=True)
    return table / np.sqrt((base * table**2).sum(1, keepdims=True))


# ---- exact, by enumeration ----


@dataclass(frozen=True)
class Exact:
    """What enumeration says of a policy, means over prompts.

    objective: J(pi); best: J* [score]; log_z, kl: KL(pi || pi0), to_optimum: KL(pi || pi*),
    from_optimum: KL(pi* || pi) [nats]; score: E_pi[score].
    """

    objective: float
    best: float
    log_z: float
    kl: float
    to_optimum: float
    from_optimum: float
    score: float


def optimal_logprobs(base_logprobs, scores, kl_coef):
    """Return log pi* = log pi0 + score / kl_coef - log Z of all answers, (P, S) [nats]."""
    base, scores = _logprobs(base_logprobs), check_scores(scores, kl_coef)
    _check_shapes({"base_logprobs": base, "scores": scores})
    tilted = base + scores / kl_coef
    return tilted - logsumexp(tilted, axis=1, keepdims=True)


def exact(logprobs, base_logprobs, scores, kl_coef):
    """Measure a policy against pi* without error; return Exact.

    J(pi) = E_pi[score] - kl_coef KL(pi || pi0) = kl_coef log Z - kl_coef KL(pi || pi*) (Korbak et
    al. 2022). logprobs, base_logprobs (P, S) [nats], scores (P, S). Example:
    `exact(bed.sequence_logprobs(model), bed.base_logprobs, bed.scores, 0.3).to_optimum`.
    """
    ours, base = _logprobs(logprobs), _logprobs(base_logprobs)
    _check_shapes({"logprobs": ours, "base_logprobs": base})
    best = optimal_logprobs(base, scores, kl_coef)
    scores = np.asarray(scores, dtype=float)
    log_z = float(logsumexp(base + scores / kl_coef, axis=1).mean())
    score, kl = float((np.exp(ours) * scores).sum(1).mean()), _kl(ours, base)
    return Exact(
        score - kl_coef * kl, kl_coef * log_z, log_z, kl, _kl(ours, best), _kl(best, ours), score
    )


@dataclass(frozen=True)
class Split:
    """An entropy in two parts [nats], means over prompts: H(answer) = between + within.

    between: H(voice); within: H(answer | voice); shares (P, G): of each voice; by_group (P, G):
    H(answer | this voice).
    """

    between: float
    within: float
    shares: np.ndarray
    by_group: np.ndarray


def entropy_split(logprobs, groups):
    """Split the entropy of the answers by the chain rule H(Y) = H(M) + H(Y | M); return a Split.

    Where the score depends on the group M alone, pi*(y | m) = pi0(y | m): only H(M) may change.
    logprobs (P, S) [nats]; groups (S,): the group of each answer, 0 to G - 1.
    """
    logprobs, groups = _logprobs(logprobs), np.asarray(groups)
    count = len(np.unique(groups))
    if groups.shape != logprobs.shape[1:] or not np.isin(groups, range(count)).all():
        raise OptimumError(
            f"groups of shape {groups.shape}; expected {logprobs.shape[1:]}, each 0 to G - 1 and "
            f"none of these left out"
        )
    shares, inside = [], []
    for group in range(count):
        part = logprobs[:, groups == group]
        total = logsumexp(part, axis=1, keepdims=True)
        shares.append(total[:, 0])
        inside.append(-(np.exp(part - total) * (part - total)).sum(1))
    logs, inside = np.stack(shares, 1), np.stack(inside, 1)
    shares = np.exp(logs)
    between, within = -(shares * logs).sum(1).mean(), (shares * inside).sum(1).mean()
    return Split(float(between), float(within), shares, inside)


def _logprobs(logprobs):
    """Return log-probabilities as an array (P, S).

    Raises OptimumError where they are not of all answers.
    """
    try:
        array = torch.as_tensor(logprobs).detach().cpu().double().numpy()
    except (TypeError, ValueError, RuntimeError):
        raise OptimumError(
            f"log-probabilities are a {type(logprobs).__name__} that is no table of numbers; "
            f"expected (prompts, all answers)"
        ) from None
    total = np.exp(array).sum(-1)
    if array.ndim != 2 or not np.allclose(total, 1, atol=1e-5):
        raise OptimumError(
            f"log-probabilities of shape {array.shape} sum to {np.ravel(total)[0]:.6g}; expected "
            f"(prompts, all answers) with a sum of 1 a prompt"
        )
    return array


def _check_shapes(tables):
    """Raise OptimumError unless all tables, {name: array}, have one shape."""
    if len({table.shape for table in tables.values()}) > 1:
        shapes = ", ".join(f"{name} {table.shape}" for name, table in tables.items())
        raise OptimumError(f"{shapes}; expected (prompts, all answers) for each")


def _kl(left, right):
    """Return KL(left || right) [nats] of two tables of log-probabilities, mean over prompts."""
    # What never happens counts 0, even where both say -inf.
    gap = np.subtract(left, right, out=np.zeros_like(left), where=left > -np.inf)
    return float((np.exp(left) * gap).sum(1).mean())
