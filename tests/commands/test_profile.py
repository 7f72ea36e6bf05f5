"""Profiles: what they change in params.yaml, what they leave alone, and what is refused."""

import re
import shutil
from difflib import unified_diff
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import modify_yaml

from ncn.__main__ import main
from ncn.commands.profile import apply_profile
from ncn.common.errors import InputError
from ncn.common.nested import leaves
from ncn.model import build_model
from ncn.settings import load_params, read_yaml
from ncn.settings.profiles import Change, experiment, overlay, read_commented
from tests.conftest import PARAMS, ROOT, VOCABULARY

PROFILES = ROOT / "profiles"
BEFORE = PARAMS.read_text(encoding="utf-8")


@pytest.fixture
def params_path(tmp_path: Path) -> Path:
    """A copy of the tests' params.yaml that may be changed."""
    return Path(shutil.copy(PARAMS, tmp_path))


def lay(params_path: Path, text: str) -> list[Change]:
    """Lay a profile of the given text over `params_path`."""
    profiles = params_path.parent / "profiles"
    profiles.mkdir(exist_ok=True)
    (profiles / "mine.yaml").write_text(text, encoding="utf-8")
    return apply_profile("mine", params_path, profiles)


def lines_that_differ(params_path: Path) -> list[str]:
    """The added and removed lines against the params.yaml before, as a diff shows them."""
    now = params_path.read_text(encoding="utf-8")
    diff = unified_diff(BEFORE.splitlines(), now.splitlines(), lineterm="", n=0)
    return [line for line in diff if not line.startswith(("---", "+++", "@@"))]


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_each_profile_changes_its_own_lines_and_no_other(params_path: Path, name: str) -> None:
    changes = apply_profile(name, params_path, PROFILES)
    load_params(params_path)
    # A list is replaced whole: its entries are lines of their own.
    lists = {change.key.rpartition(".")[2] for change in changes if isinstance(change.after, list)}
    keys = {change.key.rpartition(".")[2] for change in changes} - lists
    lines = [line[1:] for line in lines_that_differ(params_path)]
    inside = {key for c in changes if c.key.endswith("files") for each in c.after for key in each}
    differing = {line.partition(":")[0].strip(" -") for line in lines if ":" in line}
    assert keys == differing - inside - lists


@pytest.mark.parametrize("path", [ROOT / "params.yaml", PARAMS], ids=["ours", "of the tests"])
@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("ncn.hidden", (65, 66)),
        ("seed", (7, 8)),
        ("train.lr", (0.007, 0.008)),
        ("data.path", ("mine.txt", "yours.txt")),
        ("convergence.smoothing_span", (51, 52)),
        ("generate.recall_sequences", (127, 126)),
    ],
)
def test_one_setting_of_an_experiment_changes_one_line(
    path: Path, key: str, values: tuple[object, object], tmp_path: Path
) -> None:
    """As `dvc exp run -S` writes it, which makes every list a plain one."""
    copy = Path(shutil.copy(path, tmp_path / "params.yaml"))
    # A user's may say the one already, and be written in another way than DVC's.
    with modify_yaml(copy):
        pass
    value = values[dict(leaves(read_yaml(copy)))[key] == values[0]]
    before = copy.read_text(encoding="utf-8").splitlines()
    assert path != PARAMS or before == BEFORE.splitlines()
    apply_overrides(copy, [f"{key}={value}"])
    after = copy.read_text(encoding="utf-8").splitlines()
    assert len(after) == len(before)
    ((old, new),) = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    name, _, said = new.partition("#")[0].partition(":")
    assert (name.strip(), said.strip()) == (key.rpartition(".")[2], str(value))
    assert new.partition("#")[1:] == old.partition("#")[1:]


def test_a_profile_is_written_as_dvc_writes(params_path: Path) -> None:
    for name in ("paper", "ablations"):
        apply_profile(name, params_path, PROFILES)
        text = params_path.read_text(encoding="utf-8")
        with modify_yaml(params_path):
            pass
        assert params_path.read_text(encoding="utf-8") == text


def test_a_second_application_finds_nothing_to_change(params_path: Path) -> None:
    assert apply_profile("paper", params_path, PROFILES)
    once = params_path.read_bytes()
    assert apply_profile("paper", params_path, PROFILES) == []
    assert params_path.read_bytes() == once


def test_paper_is_the_published_experiment(params_path: Path) -> None:
    apply_profile("paper", params_path, PROFILES)
    p = load_params(params_path)
    assert (p.data.source, p.tokenizer.vocabulary) == ("tinystories-v2", "gpt2")
    assert p.model.model_dump() == {
        "d_model": 256,
        "n_layers": 6,
        "n_heads": 8,
        "d_ff": 1024,
        "context_length": 512,
        "dropout": 0.1,
    }
    assert (p.ncn.hidden, p.ncn.heads, p.ncn.activation) == (64, 2, "tanh")
    assert (p.ncn.homeostatic_lambda, p.ncn.precision_max) == (0.01, 4.0)
    assert (p.train.schedule, p.train.warmup_steps, p.train.weight_decay) == ("cosine", 100, 0.1)
    assert (p.split.unit, p.split.validation, p.eval.sequences) == ("sequence", 0.05, 3200)
    micro_batches = 1_016_288 // p.train.micro_batch_size
    assert p.train.epochs * (micro_batches // p.train.grad_accum_steps) == 15_879


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {d_modle: 64}", "mine.yaml: model.d_modle: unknown key; allowed are d_model, n_l"),
        ("modle: {d_model: 64}", "mine.yaml: modle: unknown key; allowed are seed, data,"),
        ("model: {n_heads: 3}", "over it: model: d_model 128 is not divisible by n_heads 3"),
        ("train: {lr: fast}", "over it: train.lr: it should be a valid number, not 'fast'"),
        ("train:", "over it: train: it should be"),
        ("train: {lr_scale: {head: 2}}", "over it: train.lr_scale.head: no parameter is at 'head'"),
        ("arms: {mine: {hiden: 3}}", "arms.mine.hiden: unknown key"),
        ("# nothing but a comment", "mine.yaml: expected sections"),
        ("model: {d_model: 64", "mine.yaml is not YAML"),
    ],
)
def test_a_bad_profile_is_one_line_and_changes_no_byte(
    params_path: Path, text: str, words: str
) -> None:
    with pytest.raises(InputError) as refused:
        lay(params_path, text)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).count("mine.yaml") == 1
    assert params_path.read_text(encoding="utf-8") == BEFORE
    assert sorted(path.name for path in params_path.parent.iterdir()) == ["params.yaml", "profiles"]


def test_what_only_the_reader_of_comments_refuses_is_one_line(tmp_path: Path) -> None:
    """A tab within a word: YAML 1.2 takes it, as read_yaml does; ruamel.yaml does not."""
    file = tmp_path / "params.yaml"
    file.write_text("arms:\n  frozen: {salience\tcausal, frozen: true}\n")
    assert read_yaml(file)
    with pytest.raises(InputError, match="cannot be read with its comments: while parsing a flow"):
        read_commented(file)


def test_an_unknown_profile_is_answered_with_those_that_exist(params_path: Path) -> None:
    with pytest.raises(InputError, match=r"no profile 'papre' in .*; there are .*paper.*smoke"):
        apply_profile("papre", params_path, PROFILES)


def test_a_longer_list_keeps_the_blank_line_behind_it(params_path: Path) -> None:
    apart = BEFORE.replace("- 1\nat_size:", "- 1\n\nat_size:")
    assert apart != BEFORE
    params_path.write_text(apart, encoding="utf-8")
    lay(params_path, "seeds: [1, 2]\nncn: {signals: [gain]}\n")
    assert lines_that_differ(params_path) == ["-  - precision", "-  - ffn_gate", "+- 2", "+"]


def test_a_profile_may_bring_a_new_arm(params_path: Path) -> None:
    (change,) = lay(params_path, "arms: {run_1: {init: zero, frozen: true}}")
    assert str(change) == 'arms.run_1: null -> {"init": "zero", "frozen": true}'
    assert load_params(params_path).control_network("run_1").frozen


def test_only_values_that_differ_are_changes() -> None:
    content = {"train": {"lr": 2.0e-3, "epochs": 1}, "seeds": [1]}
    changes = overlay(content, {"train": {"lr": 6.0e-4, "epochs": 1}, "seeds": [1, 2]})
    assert [str(change) for change in changes] == [
        "train.lr: 0.002 -> 0.0006",
        "seeds: [1] -> [1, 2]",
    ]
    assert content == {"train": {"lr": 6.0e-4, "epochs": 1}, "seeds": [1, 2]}


ALIASES = """arms:
  baseline: &none
    controller: none  # no control
  plain: *none
  wide:
    <<: *none
    match: none
  ncn: {signals: &one [gain]}
  ncn_causal:
    salience: causal
    signals: *one
"""


@pytest.fixture
def aliased(params_path: Path) -> Path:
    """A copy of the tests' params.yaml whose arms are said by anchors, aliases and merges."""
    text = re.sub(r"(?ms)^arms:.*?(?=^\S)", ALIASES, BEFORE)
    assert text != BEFORE
    params_path.write_text(text, encoding="utf-8")
    return params_path


@pytest.mark.parametrize(
    ("profile", "keys"),
    [
        ("arms: {plain: {controller: static}}", ["arms.plain.controller"]),
        ("arms: {baseline: {match: none}}", ["arms.baseline.match"]),
        ("arms: {ncn: {signals: [precision]}}", ["arms.ncn.signals"]),
        ("arms: {new: &n {controller: static}, newer: *n}", ["arms.new", "arms.newer"]),
        ("arms: {plain: &n {controller: static}, newer: *n}",
         ["arms.plain.controller", "arms.newer"]),
    ],
)  # fmt: skip
def test_an_overlay_changes_what_it_names_also_where_aliases_share_it(
    aliased: Path, profile: str, keys: list[str]
) -> None:
    before = dict(leaves(read_yaml(aliased)))
    changes = lay(aliased, profile)
    after = dict(leaves(read_yaml(aliased)))
    assert [change.key for change in changes] == keys
    differing = {key for key in before | after if before.get(key) != after.get(key)}
    assert differing
    assert all(key.startswith(tuple(keys)) for key in differing)


def test_what_is_written_has_no_alias_and_every_comment(aliased: Path) -> None:
    before = read_yaml(aliased)
    lay(aliased, "seed: 7")
    text = aliased.read_text(encoding="utf-8")
    assert not any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
    assert not re.search(r"[&*]\w+|<<", re.sub("#.*", "", text))
    assert "# no control" in text
    assert read_yaml(aliased) == before | {"seed": 7}


def test_a_profile_laid_in_memory_changes_what_it_names(aliased: Path) -> None:
    (aliased.parent / "mine.yaml").write_text("arms: {plain: {controller: static}}")
    params = experiment("mine", aliased, aliased.parent)
    arms = ("baseline", "plain", "wide")
    assert [params.control_network(arm).controller for arm in arms] == ["none", "static", "none"]


@pytest.mark.parametrize("small", ["1e-05", "'1e-05'", "1.0e-5"])
def test_a_small_number_stays_a_number_however_it_is_written(params_path: Path, small: str) -> None:
    lay(params_path, f"train: {{lr: {small}}}")
    lay(params_path, "seed: 7")  # written once more by ruamel
    assert load_params(params_path).train.lr == 1e-5


def test_the_command_shows_each_change_and_the_way_back(
    params_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sys.argv", ["ncn", "profile", "smoke", "--params", str(params_path)])
    main()
    first = capsys.readouterr().out
    assert "data.stories: 8400 -> 300\n" in first
    assert f"git checkout {params_path}\n" in first
    assert re.search(r"ncn_causal: \d+ steps, .* a second: about 0:\d\d:\d\d and 0\.\d GiB", first)
    main()
    assert capsys.readouterr().out.startswith("nothing changed\n")


def test_each_ablation_changes_one_thing_of_the_causal_arm_and_can_be_built(
    params_path: Path,
) -> None:
    apply_profile("ablations", params_path, PROFILES)
    params = load_params(params_path)

    def settings_of(arm: str) -> dict[str, Any]:
        return params.control_network(arm).model_dump() | params.train_of(arm).model_dump()

    causal = settings_of("ncn_causal")
    differing = {}
    for arm in set(params.arms) - {"baseline", "ncn", "ncn_causal", "run_1", "static"}:
        mine = settings_of(arm)
        differing[arm] = {key for key in causal if mine[key] != causal[key]}
        assert build_model(params, arm, VOCABULARY, 1).control is not None
    assert all(len(keys) == 1 for keys in differing.values()), differing
    assert set.union(*differing.values()) == {
        "signals", "homeostatic_lambda", "init", "frozen", "salience", "precision_max", "decay",
    }  # fmt: skip
    assert params.control_network("static").controller == "static"
    weights = {arm: params.control_network(arm).homeostatic_lambda for arm in params.arms}
    assert {0.0, 0.01, 0.1} == set(weights.values())
