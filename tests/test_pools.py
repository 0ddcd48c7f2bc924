"""A pool on disk gives the optimum of its scores; a damaged one is refused."""

import importlib.util
import zlib

from rlhf_lite import optimum
from rlhf_lite.optimum import OptimumError
from rlhf_lite.pools import Pool
from rlhf_lite.runtime import DATA

import numpy as np
import pytest


def write_pool(folder, **changes):
    rng = np.random.default_rng(0)
    parts = {
        "prompts": np.array(["a", "b"]), "scores": rng.normal(size=(2, 400)).astype(np.float32),
        "logprobs": rng.normal(-30, 1, (2, 400)).astype(np.float16),
        "voices": rng.integers(3, size=(2, 400)).astype(np.uint8),
    }  # fmt: skip
    kept = {k: v for k, v in (parts | changes).items() if v is not None}
    np.savez_compressed(folder / "pool.npz", **kept)
    return parts


def test_a_pool_gives_the_optimum_of_its_scores(tmp_path):
    parts = write_pool(tmp_path)
    pool = Pool.read("pool", tmp_path)
    assert pool.prompts == ["a", "b"] and pool.voices.shape == (2, 400, 3)
    assert (pool.voices.argmax(-1) == parts["voices"]).all() and (pool.voices.sum(-1) == 1).all()
    assert pool.texts is None and pool.words is None
    best = pool.at(1.0)
    again = optimum.optimum(parts["scores"], 1.0, pool.voices)
    assert best.objective == again.objective and np.allclose(best.features.sum(1), 1)


def test_the_tilted_pool_is_a_change_of_measure(tmp_path):
    """log pi* - log pi0 = score / kl_coef - log Z, and its mean under the weights is the KL."""
    write_pool(tmp_path)
    pool = Pool.read("pool", tmp_path)
    logprobs, weights = pool.tilted(0.8)
    gap = logprobs - pool.logprobs
    assert np.allclose(weights, np.exp(gap) / 400)
    assert (weights * gap).sum(1).mean() == pytest.approx(pool.at(0.8).kl, abs=0.02)


def test_a_pool_of_texts_keeps_them_in_their_places(tmp_path):
    """Its score is what the auditor's gold says; voices it has none, and so no shares."""
    texts = [[f"{p}\n{n}" for n in range(400)] for p in "ab"]
    packed = zlib.compress("\x1e".join(texts[0] + texts[1]).encode())
    gold = np.random.default_rng(1).normal(size=(2, 400))
    write_pool(
        tmp_path, scores=None, logprobs=None, voices=None, gold=gold,
        words=np.full((2, 400), 7, np.uint8), texts=np.frombuffer(packed, np.uint8),
    )  # fmt: skip
    pool = Pool.read("pool", tmp_path)
    assert pool.texts == texts and (pool.scores == gold).all() and (pool.words == 7).all()
    assert pool.voices is None and pool.at(1.0).features is None


@pytest.mark.parametrize(
    "change",
    [{"scores": None}, {"prompts": None}, {"voices": np.zeros((2, 3), np.uint8)},
     {"prompts": np.array(["a"])}, {"texts": np.zeros(9, np.uint8)}],
)  # fmt: skip
def test_a_damaged_pool_gets_one_sentence(tmp_path, change):
    write_pool(tmp_path, **change)
    with pytest.raises(OptimumError, match=r"pool .* cannot be read .*make_pools\.py"):
        Pool.read("pool", tmp_path)
    with pytest.raises(OptimumError, match="cannot be read"):
        Pool.read("none", tmp_path)


@pytest.mark.parametrize("name, shape", [("training", (84, 1200)), ("held_out", (21, 1024))])
def test_shipped_pools_can_be_read(name, shape):
    pool = Pool.read(name)
    assert pool.scores.shape == shape and len(pool.prompts) == shape[0]
    assert (pool.texts is None) == (name == "training") == (pool.words is None)


# ---- how they are drawn ----


@pytest.fixture(scope="module")
def drawing():
    """data/make_pools.py as a module."""
    spec = importlib.util.spec_from_file_location("make_pools", DATA / "make_pools.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_chunks_of_held_out_samples_become_the_pool_of_their_prompts(drawing, tmp_path):
    """Two chunks of 512 a prompt, in order."""
    parts = [
        {
            "texts": np.array([f"{n} {k}" for k in range(512)]), "gold": np.full(512, n / 4),
            "words": np.full(512, n, np.uint8), "claims": np.full((512, 3), n, np.uint8),
        }
        for n in range(42)
    ]  # fmt: skip
    np.savez(tmp_path / "pool.npz", **drawing.whole("held_out", parts))
    pool, shipped = Pool.read("pool", tmp_path), Pool.read("held_out")
    assert pool.scores.shape == shipped.scores.shape and pool.prompts == shipped.prompts
    assert pool.texts[3][511:513] == ["6 511", "7 0"] and pool.words[20].max() == 41
    assert pool.scores[3].tolist() == [1.5] * 512 + [1.75] * 512


def test_chunks_of_training_samples_stand_side_by_side(drawing, tmp_path):
    parts = [
        {"scores": np.full((84, 6), n), "logprobs": np.full((84, 6), -n),
         "voices": np.full((84, 6), n, np.uint8)}
        for n in range(3)
    ]  # fmt: skip
    np.savez(tmp_path / "pool.npz", **drawing.whole("training", parts))
    pool = Pool.read("pool", tmp_path)
    assert pool.prompts == Pool.read("training").prompts
    assert pool.scores[7, 5:7].tolist() == [0, 1] and pool.voices[0, 12].tolist() == [0, 0, 1]


@pytest.mark.parametrize("name", ["training", "held_out"])
def test_the_shipped_pools_have_what_a_new_one_would(drawing, name):
    with np.load(drawing.FOLDER / f"{name}.npz") as file:
        shipped = {k: file[k].dtype for k in file.files}
    text = np.array(["a"] * 1024)
    part = {k: np.zeros((84, 2) if name == "training" else 1024, shipped[k])
            for k in shipped if k not in ("prompts", "world", "texts")}  # fmt: skip
    made = drawing.whole(name, [part | ({"texts": text} if name == "held_out" else {})])
    assert {k: v.dtype for k, v in made.items()} == shipped


def test_a_chunk_is_drawn_once(drawing, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "DATA", tmp_path)
    (tmp_path / "runs").mkdir()
    asked = []

    def chunk(number):
        asked.append(number)
        return {"gold": np.full(2, number)}

    monkeypatch.setattr(drawing, "CHUNKS", {"held_out": (chunk, 2)})
    paths = [drawing.kept("held_out", number) for number in (0, 1, 0)]
    assert asked == [0, 1] and paths[0] == paths[2]
    assert np.load(paths[1])["gold"].tolist() == [1, 1]
    assert not list(tmp_path.rglob("half-*"))
