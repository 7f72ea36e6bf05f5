"""params.yaml: what is refused, and in which words."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ncn.common.errors import InputError
from ncn.common.paths import model_directory, run_name, training_metrics
from ncn.settings import load_params, read_yaml
from ncn.settings.profiles import NAMED_FREELY
from ncn.settings.values import LONGEST_NAME
from tests.conftest import PARAMS, ROOT

Change = tuple[str, object]


def changed(tmp_path: Path, *changes: Change) -> Path:
    """The tests' params.yaml with some dotted keys set."""
    yaml = YAML(typ="safe")
    content = yaml.load(PARAMS)
    for key, value in changes:
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section = section[name]
        section[last] = value
    path = tmp_path / "params.yaml"
    yaml.dump(content, path)
    return path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("modle", 1), "modle: unknown key; allowed are adapt, arms"),
        (("ncn.hiden", 1), "ncn.hiden: unknown key; allowed are activation, attention_entropy"),
        (("arms.ncn", {"hiden": 1}), "arms.ncn.hiden: unknown key; allowed are ['activation'"),
        (("ncn.hidden", "many"), "ncn.hidden: it should be a valid integer, not 'many'"),
        (("ncn.hidden", 64.5), "ncn.hidden: it should be a valid integer, not 64.5"),
        (("ncn.frozen", 1), "ncn.frozen: it should be a valid boolean, not 1"),
        (("train.lr", 0), "train.lr: it should be greater than 0, not 0"),
        (("train.lr", "fast"), "train.lr: it should be a valid number, not 'fast'"),
        (("train.lr_scale", {"control": 0}), "train.lr_scale.control: it should be greater than 0"),
        (("train.lr_scale", {"blocks.9": 2}), "train.lr_scale.blocks.9: no parameter is at '9'; a"),
        (("train.lr", float("nan")), "train.lr: it should be a finite number, not nan"),
        (("data.url", "http://a/b\nc"), "data.url: it should be an address, not 'http://a/b\\nc'"),
        (("tokenizer.path", "~no_such_user/a"), "tokenizer: path: ~no_such_user/a: Could not"),
        (("tokenizer.path", "a\0b"), "tokenizer: path: 'a\\x00b': no path has a NUL in it"),
        (("at_size", ["s"]), "at_size: it should be a valid string, not ['s']"),
        (
            ("text.repeats", "all"),
            "text.repeats: it should be 'keep', 'exact' or 'near', not 'all'",
        ),
        (("model.n_heads", 5), "model: d_model 128 is not divisible by n_heads 5"),
        (("model.n_layers", 0), "model.n_layers: it should be greater than or equal to 1, not 0"),
        (("ncn.heads", 3), "arms.ncn: d_model 128 is not divisible by the heads 3"),
        (("tokenizer.vocab_size", 70_000), "less than or equal to 65536, not 70000"),
        (("ncn.salience", "local"), "it should be 'global', 'causal', 'reactive' or 'none'"),
        (("ncn.signals", ["gian"]), "'gian' is no signal; allowed are gain, precision, ffn_gate"),
        (("ncn.signals", "gain"), "ncn.signals: it should be a valid list, not 'gain'"),
        (("ncn.gain", "sigmoid"), "ncn.gain: it should be '2sigmoid' or 'shifted', not 'sigmoid'"),
        (("arms", {"a": {"signals": ["x"]}}), "arms.a: signals: 'x' is no signal; allowed are"),
        (("ncn.phasic", "layers"), "ncn.phasic: it should be 'embedding' or 'layer', not 'layers'"),
        (
            ("arms", {"a": {"controller": "static", "phasic": "layer"}}),
            "arms.a.phasic: layer, but a controller that is static reads no input; allowed is",
        ),
        (
            ("arms", {"a": {"controller": "recurrent", "phasic": "layer"}}),
            "arms.a: phasic: layer, but the state of a recurrent controller is of the embeddings",
        ),
        (("ncn.signals", ["gain", "gain"]), "signals ['gain', 'gain'] name one signal twice"),
        (("ncn.plasticity", "head_gate"), "ncn: plasticity 'head_gate': allowed are none, gain, "),
        (("data.source", "web"), "data.source: it should be 'builtin', 'tinystories-v2'"),
        (("data.source", "local"), "data: source: local needs path"),
        (("data.source", "url"), "data: source: url needs url (http or https) and sha256"),
        (("tokenizer.vocabulary", "local"), "tokenizer: vocabulary: local needs path"),
        (("split.validation", 1.0), "split.validation: it should be less than 1, not 1.0"),
        (("data.url", "ftp://host/x"), "data.url: it should be http:// or https:// with a host"),
        (("data.url", "http://[host/x"), "with a host, not 'http://[host/x'"),
        (("data.url", "http://a..b/x"), "with a host, not 'http://a..b/x'"),
        (("data.url", "http://host:port/"), "with a host, not 'http://host:port/'"),
        (("seeds", []), "seeds: List should have at least 1 item, not []"),
        (("train", 3), "train: it should be a valid dictionary, not 3"),
        (("seeds", [1, 1]), "seeds [1, 1] name one seed twice"),
        (("arms", {"a-b": {}}), "arms.a-b: String should match pattern"),
        (("arms", {"a" * 65: {}}), "aaa: a name of 65 letters: at most 64 are allowed, as it"),
        (("sizes", {"s" * 240: {}}), "sss: a name of 240 letters: at most 64 are allowed, as it"),
        (("arms", {"published": {}}), "arms.published: this name is taken"),
        (("at_size", "small"), "at_size: 'small' is not in sizes; allowed are null and none yet"),
        (
            ("sizes", {"m": {"train": {"epoch": 2}}}),
            "sizes.m: train.epoch: unknown key; allowed are",
        ),
        (("sizes", {"nfiles": {}}), "nfiles: no arm and no size can have this name: DVC"),
        (("tune.lr", [2e-3, 1e-3]), "tune: lr [0.002, 0.001]: each value once, ascending"),
        (("tune.lr", [1e-3, 2e-3]), "split.tuning: tune.lr has several values"),
        (("split.tuning", 0.95), "split: validation 0.05 and tuning 0.95 leave nothing"),
        (("compare.primary", "ncm"), "compare.primary: 'ncm' is no arm beside baseline; allowed"),
        (("compare.primary", "baseline"), "allowed are null and ncn, ncn_causal"),
        (("compare.reference", "x"), "compare.reference: 'x' is no arm beside baseline"),
        (("arms", {"baseline": {}}), "compare.primary: there is no arm beside baseline; it should"),
        (
            ("adapt.start_from", ["basline"]),
            "adapt.start_from: 'basline' is no arm; allowed are",
        ),
        (("adapt.start_from", ["ncn", "ncn"]), "adapt: start_from ['ncn', 'ncn'] names one twice"),
        (
            ("adapt.train_only", ["contrl"]),
            "adapt.train_only.0: it should be 'control', 'lora'",
        ),
        (("adapt.lr", {"full": 1}), "adapt: lr.control: missing, and train_only names control"),
        (("adapt.lr", {"all": 1}), "adapt.lr.all: it should be 'control', 'lora', 'bitfit', 'full"),
        (("adapt.control", {"hiden": 1}), "adapt.control: hiden: unknown key; allowed are activ"),
        (("adapt.control", {"controller": "none"}), "adapt.control: controller: it should be"),
        (("adapt.text.source", "dialogue"), "text.dialogue: any leaves no story for a second text"),
        (("text.dialogue", "no"), "text.dialogue: it should be 'any', 'without' or 'with'"),
        (("generate.slider_values", [0.0, 1.0]), "0 is what each value is compared with"),
        (("adapt.control", {"heads": 3}), "adapt.control: d_model 128 is not divisible by the he"),
        (("compare.seed_sd", 0), "compare.seed_sd: it should be greater than 0, not 0"),
    ],
)
def test_bad_settings_end_with_one_line_that_names_the_key(
    tmp_path: Path, change: Change, words: str
) -> None:
    path = changed(tmp_path, change)
    with pytest.raises(InputError) as error:
        load_params(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value) or str(error.value).startswith("arms.")


def test_a_plastic_arm_is_not_shared_out(tmp_path: Path) -> None:
    shared: Change = ("train.sharding", "fsdp")
    load_params(changed(tmp_path, shared))
    with pytest.raises(InputError, match=r"arms\.ncn\.plasticity: not with train\.sharding fsdp"):
        load_params(changed(tmp_path, shared, ("arms.ncn", {"plasticity": "gain"})))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "is not YAML"),
        ("- a", "expected sections (a mapping), found list"),
        ("seed: 1\nseed: 2\n", "is not YAML"),
        ("seed: 1\n", "data: missing"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"params\.yaml") as error:
        load_params(path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.yaml does not exist"):
        load_params(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize("written", ["1e-05", "'1e-05'", "1.0e-5", "0.00001"])
def test_small_numbers_stay_numbers_however_they_are_written(tmp_path: Path, written: str) -> None:
    text = PARAMS.read_text()
    text = re.sub(r"(?<=\ntrain:\n)  lr: \S+", f"  lr: {written}", text)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    assert load_params(path).train.lr == 1e-5


def test_a_size_is_laid_over_model_and_train(tmp_path: Path) -> None:
    sizes = {"s": {"model": {"d_model": 32}, "train": {"epochs": 3}}, "m": {}}
    plain = load_params(changed(tmp_path, ("sizes", sizes)))
    small = load_params(changed(tmp_path, ("sizes", sizes), ("at_size", "s")))
    assert small.model == plain.model.model_copy(update={"d_model": 32})
    assert small.train == plain.train.model_copy(update={"epochs": 3})
    sizes["s"]["model"] = {"context_length": 9}
    with pytest.raises(InputError, match=r"sizes\.s: model\.context_length: all sizes read the"):
        load_params(changed(tmp_path, ("sizes", sizes), ("at_size", "s")))


def test_names_of_the_longest_length_are_within_what_file_systems_take(tmp_path: Path) -> None:
    arm, seed, key = "a" * LONGEST_NAME, 2**32 - 1, "0" * 16
    arms = {arm: {}, "baseline": {}}
    path = changed(tmp_path, ("arms", arms), ("compare.primary", arm), ("sizes", {arm: {}}))
    assert arm in load_params(path).arms
    run = run_name(arm, seed)
    names = [f"tune-{arm}-{-1.23456e-100:g}-{seed}-{key}", f"{run}-{key}", f"{arm}-{arm}.lock"]
    names += [f".{training_metrics(run).name}.new", f".{model_directory(run).name}.new"]
    assert max(map(len, names)) <= 143  # of eCryptfs; 255 elsewhere


def test_a_learning_rate_is_tuned_or_given_and_not_both(tmp_path: Path) -> None:
    arms = {"ncn": {"lr": 1e-3}, "baseline": {"controller": "none"}}
    changes = (("arms", arms), ("compare.primary", "ncn"))
    assert load_params(changed(tmp_path, *changes)).train_of("ncn").lr == 1e-3
    with pytest.raises(InputError, match=r"arms\.ncn\.lr: tune\.lr chooses every arm's"):
        load_params(changed(tmp_path, *changes, ("tune.lr", [2e-3])))


def test_an_arm_is_the_section_with_its_changes(tmp_path: Path) -> None:
    arms = {
        "run_1": {"init": "zero", "frozen": True},
        "wide": {"controller": "none", "match": "none"},
    }
    params = load_params(changed(tmp_path, ("arms", arms), ("compare.primary", None)))
    assert params.control_network("run_1").init == "zero"
    assert params.control_network("run_1").hidden == params.ncn.hidden
    assert params.baseline_of("wide").match == "none"
    with pytest.raises(InputError, match=r"arm 'ncn' is not in params\.yaml; its arms are"):
        params.control_network("ncn")


def test_an_arm_without_settings_may_be_written_empty(tmp_path: Path) -> None:
    # `dvc exp run -S` writes null as nothing at all.
    params = load_params(changed(tmp_path, ("arms", {"ncn": None}), ("compare.primary", "ncn")))
    assert params.control_network("ncn") == params.ncn


def keys(content: object, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The settings of params.yaml, without the names that a user gives."""
    if not isinstance(content, dict) or above in NAMED_FREELY:
        return {above}
    return {above}.union(*(keys(value, (*above, key)) for key, value in content.items()))


def test_the_experiment_of_the_tests_has_the_settings_of_params_yaml() -> None:
    # Its values are its own: else a user's would decide what the tests test.
    assert keys(read_yaml(PARAMS)) == keys(read_yaml(ROOT / "params.yaml"))
    load_params(PARAMS)


def test_params_yaml_is_an_experiment() -> None:
    load_params(ROOT / "params.yaml")
