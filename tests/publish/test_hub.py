"""Publishing a model and reading it back, through the real client, on the loopback interface."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub import ModelCard

from ncn.__main__ import main
from ncn.common.errors import InputError
from ncn.common.files import read_json, write_json
from ncn.common.paths import COMPARISON, evaluation_metrics, run_name, training_metrics
from ncn.corpus.tokenizer import train_tokenizer
from ncn.model import LanguageModel, build_model, parameter_count, save_model
from ncn.publish.hub import fetch_model, from_pretrained, push_to_hub
from ncn.publish.model_card import model_card
from ncn.settings import Params
from tests.conftest import PARAMS, VOCABULARY
from tests.hub import Hub, Refusal, serve_hub
from tests.results import write_results

REPO = "someone/ncn-tiny"
TOKENS = torch.arange(20)[None]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub, a cache and a token of our own, and the working directory below tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with serve_hub() as served:
        monkeypatch.setenv("HF_ENDPOINT", served.endpoint)
        yield served


@pytest.fixture
def model(tiny: Params) -> LanguageModel:
    return build_model(tiny, "ncn", VOCABULARY, 1).eval()


@pytest.fixture
def scored(model: LanguageModel) -> dict[str, Any]:
    """metrics/ and params.yaml as the pipeline would leave them: figures found nowhere else."""
    shutil.copy(PARAMS, "params.yaml")
    trained = {
        "parameters": parameter_count(model.config),
        "d_ff": model.config.d_ff,
        "steps": 4321,
        "tokens": 7_654_321,
        "seed": 1,
        "data": "digest-of-the-tokens",
    }
    mine = {
        "sequences": 1357,
        "val_loss": 1.23456,
        "val_ppl": 3.43691,
        "val_bpb": 0.45678,
        "future_leak": 2.718,
        "scores": {
            "as_trained": {"ppl": 2.71828},
            "causal": {"ppl": 3.43691},
            "reactive": {"ppl": 5.67891},
        },
        "yardsticks": {"bigram": 2.46801},
    }
    words = "ncn: perplexity 3.4369, -0.0123 to the baseline: the difference of two checkpoints."
    arm = {key: mine[key] for key in ("val_loss", "val_ppl", "future_leak")}
    write_json(training_metrics("ncn-1"), trained)
    write_json(evaluation_metrics("ncn-1"), mine)
    write_json("metrics/summary.json", {"ncn": arm})
    comparison = {"sequences": 1357, "seeds": [1], "in_words": {"n": words}}
    comparison |= {"arms": {"ncn": {"parameters": 36_912, "flops_per_token": 48_642}}}
    write_json("metrics/compare.json", comparison)
    return mine | {"words": words}


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A vocabulary of 260 tokens."""
    text = "".join(chr(code) for code in range(97, 123)) * 3
    train_tokenizer([text], 260, tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_what_was_pushed_comes_back_with_identical_logits(tiny: Params, hub: Hub, arm: str) -> None:
    model = build_model(tiny, arm, VOCABULARY, 1).eval()
    url = push_to_hub(model, REPO, message="first")
    loaded = from_pretrained(REPO)
    assert torch.equal(loaded(TOKENS), model(TOKENS))
    assert loaded.config == model.config
    held = hub.repositories["models", REPO, "main"]
    code = {"configuration_ncn.py", "modeling_ncn.py"}
    assert set(held) == {"README.md", "config.json", "model.safetensors"} | code
    assert hub.commits == ["first"]
    assert url == f"{hub.endpoint}/{REPO}/commit/{hub.commit('models', REPO, 'main')}"


def test_the_tokenizer_goes_along_and_has_to_fit(
    tiny: Params, model: LanguageModel, tokenizer: Path, hub: Hub
) -> None:
    with pytest.raises(InputError, match=f"tokenizer has 260 tokens, the model {VOCABULARY}"):
        push_to_hub(model, REPO, tokenizer=tokenizer)
    assert not hub.requests
    push_to_hub(build_model(tiny, "ncn", 260), REPO, tokenizer=tokenizer)
    fetched = fetch_model(REPO)
    for name in ("vocab.json", "merges.txt"):
        assert (fetched / name).read_bytes() == (tokenizer / name).read_bytes()


def test_a_directory_is_a_model_too(model: LanguageModel, tmp_path: Path, hub: Hub) -> None:
    save_model(model, tmp_path / "mine")
    assert torch.equal(from_pretrained("mine")(TOKENS), model(TOKENS))
    assert not hub.requests
    with pytest.raises(InputError, match="mine is a directory: it has no revision v1"):
        from_pretrained("mine", revision="v1")


def test_a_commit_names_one_model_for_ever(tiny: Params, hub: Hub) -> None:
    first, second = (build_model(tiny, "ncn", VOCABULARY, seed).eval() for seed in (1, 2))
    commit = push_to_hub(first, REPO).rpartition("/")[2]
    assert torch.equal(from_pretrained(REPO, revision=commit)(TOKENS), first(TOKENS))
    push_to_hub(second, REPO)
    assert torch.equal(from_pretrained(REPO)(TOKENS), second(TOKENS))
    assert torch.equal(from_pretrained(REPO, revision=commit)(TOKENS), first(TOKENS))


def test_what_was_fetched_once_loads_without_a_network(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_to_hub(model, REPO)
    from_pretrained(REPO)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(from_pretrained(REPO)(TOKENS), model(TOKENS))
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set, so other/model is not reached"):
        from_pretrained("other/model")
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set"):
        push_to_hub(model, REPO)


def test_a_hub_that_is_not_there_is_one_line(model: LanguageModel) -> None:
    nowhere = "http://127.0.0.1:9"
    for attempt in (
        lambda: from_pretrained(REPO, endpoint=nowhere),
        lambda: push_to_hub(model, REPO, endpoint=nowhere),
    ):
        with pytest.raises(InputError, match=r"cannot be reached .*: check the network") as refused:
            attempt()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(401), "log in|hf auth login"),
        (Refusal(403), "403 Forbidden: your token may not"),
        (Refusal(404, "RepoNotFound"), "does not exist, or is private"),
        (Refusal(403, "GatedRepo"), "is gated: accept its terms"),
        (Refusal(503), "503 Service Unavailable: try again later"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    model: LanguageModel, hub: Hub, refusal: Refusal, words: str
) -> None:
    hub.refusal = refusal
    for attempt in (lambda: from_pretrained(REPO), lambda: push_to_hub(model, REPO)):
        with pytest.raises(InputError, match=words) as refused:
            attempt()
        assert "\n" not in str(refused.value)
        assert REPO in str(refused.value)


def test_a_name_without_an_owner_is_the_tokens_own(model: LanguageModel, hub: Hub) -> None:
    assert f"{hub.endpoint}/owner/mine/commit/" in push_to_hub(model, "mine")
    assert torch.equal(from_pretrained("owner/mine")(TOKENS), model(TOKENS))


@pytest.mark.parametrize("name", ["no/such/place", "bad name", "-x", "owner/.."])
def test_a_name_that_can_be_no_repository_is_named(model: LanguageModel, name: str) -> None:
    for attempt in (lambda: from_pretrained(name), lambda: push_to_hub(model, name)):
        with pytest.raises(InputError, match=r"no directory and no repository of a hub"):
            attempt()


def test_missing_revisions_and_foreign_repositories_are_named(
    model: LanguageModel, hub: Hub
) -> None:
    push_to_hub(model, REPO)
    with pytest.raises(InputError, match=f"{REPO} has no revision v2"):
        from_pretrained(REPO, revision="v2")
    hub.repositories = {("models", "other/one", "main"): {"config.json": b"{}", "x.bin": b"x"}}
    with pytest.raises(InputError, match=r"other/one has no model\.safetensors"):
        from_pretrained("other/one")
    assert not [request for request in hub.requests if request.path.endswith("x.bin")]


def test_private_is_never_published_where_others_can_read(
    tiny: Params, model: LanguageModel, hub: Hub
) -> None:
    push_to_hub(model, REPO, private=True)
    assert hub.private == {REPO}
    push_to_hub(model, REPO, private=True)
    hub.private.clear()
    held = hub.repositories
    with pytest.raises(InputError, match=f"{REPO} exists and is public"):
        push_to_hub(build_model(tiny, "baseline", VOCABULARY), REPO, private=True)
    assert hub.repositories == held


def test_the_token_comes_from_the_caller_or_the_environment(model: LanguageModel, hub: Hub) -> None:
    push_to_hub(model, REPO)
    assert {request.authorization for request in hub.requests} == {"Bearer hf_test"}
    hub.requests.clear()
    push_to_hub(model, REPO, token="hf_mine")
    from_pretrained(REPO, token="hf_mine")
    assert {request.authorization for request in hub.requests} == {"Bearer hf_mine"}


def test_the_card_tells_the_figures_of_metrics(
    model: LanguageModel, scored: dict[str, Any]
) -> None:
    card = model_card(model, REPO, "ncn-1")
    for figure in (
        "1.2346",
        "3.4369",
        "0.4568",
        "2.7183",
        "5.6789",
        "2.72",
        "2.4680",
        "4,321",
        "1,357",
    ):
        assert figure in card, figure
    for text in ("7,654,321", "36,912", "48,642", "digest-of-the-tokens", scored["words"]):
        assert text in card, text
    assert f"{parameter_count(model.config):,}" in card
    assert "Does it see the future?** Yes, as it was trained." in card
    assert "of the same weights scored causally" in card
    assert "One seed" in card
    assert "seeded grammar" in card


def test_the_front_matter_passes_on_no_perplexity_that_the_future_helped(
    model: LanguageModel, scored: dict[str, Any]
) -> None:
    data = ModelCard(model_card(model, REPO, "ncn-1")).data
    assert (data.license, data.language) == ("mit", "en")
    assert data.model_name == "ncn-tiny"
    results = {each.metric_name: each.metric_value for each in data.eval_results or []}
    assert results == {
        "Loss (nats a token), scored causally": 1.23456, "Perplexity, scored causally": 3.43691,
    }  # fmt: skip
    mine = read_json(evaluation_metrics("ncn-1"))
    mine["scores"].pop("causal")
    write_json(evaluation_metrics("ncn-1"), mine)
    card = model_card(model, REPO, "ncn-1")
    assert not ModelCard(card).data.eval_results
    assert "its perplexity above is not a language model's" in card
    write_json(evaluation_metrics("ncn-1"), mine | {"future_leak": 0.0})
    card = model_card(model, REPO, "ncn-1")
    figures = [result.metric_value for result in ModelCard(card).data.eval_results or []]
    assert figures == [1.23456, 3.43691]
    assert "Does it see the future?** No." in card


def test_the_data_is_named_with_its_licence(
    model: LanguageModel, scored: dict[str, Any], tmp_path: Path
) -> None:
    text = PARAMS.read_text()
    Path("params.yaml").write_text(text.replace("source: builtin", "source: tinystories-v2"))
    card = model_card(model, REPO, "ncn-1")
    assert ModelCard(card).data.datasets == ["roneneldan/TinyStories"]
    assert "licence CDLA-Sharing-1.0" in card
    Path("params.yaml").write_text(
        re.sub("source: builtin", "source: local", text).replace("  path:  ", "  path: here  ", 1)
    )
    assert "see the author about its licence" in model_card(model, REPO, "ncn-1")


def test_figures_of_another_model_are_refused(
    tiny: Params, scored: dict[str, Any], hub: Hub
) -> None:
    other = build_model(tiny, "baseline", VOCABULARY)
    with pytest.raises(InputError, match=r"ncn-1\.json is of another model: its parameters is"):
        push_to_hub(other, REPO, run="ncn-1")
    with pytest.raises(InputError, match=r"metrics/train/ncn-9\.json does not exist"):
        push_to_hub(other, REPO, run="ncn-9")
    assert not hub.requests
    assert "was not scored" in model_card(other, REPO)


@pytest.mark.parametrize("arm", ["baseline", "ncn", "ncn_causal"])
def test_every_run_of_the_experiment_has_its_card(tiny: Params, arm: str) -> None:
    shutil.copy(PARAMS, "params.yaml")
    model = build_model(tiny, arm, VOCABULARY)
    write_results(tiny)
    run = run_name(arm, tiny.seeds[0])
    mine = {"parameters": parameter_count(model.config), "d_ff": model.config.d_ff}
    write_json(training_metrics(run), read_json(training_metrics(run)) | mine)
    card = model_card(model, REPO, run)
    assert f"{read_json(evaluation_metrics(run))['val_loss']:.4f} nats a token" in card
    for words in read_json(COMPARISON)["in_words"].values():
        assert f"- {words}\n" in card
    assert "\n\n\n" not in card


def test_the_lines_that_load_a_model_work(model: LanguageModel) -> None:
    push_to_hub(model, REPO)
    _, code = re.findall(r"```python\n(.*?)```", model_card(model, REPO), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # the first is for transformers: test_transformers.py runs it
    assert names["logits"].shape == (1, 8, VOCABULARY)


def test_the_command_pushes_a_run_and_pulls_it(
    model: LanguageModel,
    tiny: Params,
    scored: dict[str, Any],
    tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = build_model(tiny, "ncn", 260, 1).eval()
    trained = read_json(training_metrics("ncn-1")) | {"parameters": parameter_count(run.config)}
    write_json(training_metrics("ncn-1"), trained)
    save_model(run, "data/models/ncn-1")
    arguments = ["push", "data/models/ncn-1", REPO, "--tokenizer", str(tokenizer), "--private"]
    monkeypatch.setattr("sys.argv", ["ncn", "hub", *arguments])
    main()
    assert f"{REPO}/commit/" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["ncn", "hub", "pull", REPO])
    main()
    fetched = Path(capsys.readouterr().out.strip())
    assert torch.equal(from_pretrained(fetched)(TOKENS), run(TOKENS))
    assert (fetched / "vocab.json").exists()
