"""Checkpoints of the published implementation: what is read, what is refused, what they tell."""

import io
import os
import pickle
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ncn.__main__ import main
from ncn.common.errors import InputError
from ncn.model import build_model, load_model
from ncn.publish import published_checkpoint as published
from ncn.publish.published_checkpoint import control_network_evidence, import_published, verdict
from ncn.settings import Params
from tests.conftest import VOCABULARY, special

V, T, D, L, H, FF, C = 61, 24, 16, 2, 4, 40, 6
TOKENS = torch.arange(20).remainder(V)[None]
# At the published initialisation: what is not drawn.
STARTS = {"bias": 0.0, "ncn_norm.weight": 1.0, "norm1.weight": 1.0, "norm2.weight": 1.0}


def published_weights(trained: bool = False) -> dict[str, Tensor]:
    """Random weights by the published names, from shapes alone."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embeddings.weight": (V, D),
        "position_embeddings.weight": (T, D),
        "ncn.control_query": (1, 1, D),
        "ncn.pooling_attn.in_proj_weight": (3 * D, D),
        "ncn.pooling_attn.in_proj_bias": (3 * D,),
        "ncn.pooling_attn.out_proj.weight": (D, D),
        "ncn.pooling_attn.out_proj.bias": (D,),
        "ncn.ncn_norm.weight": (D,),
        "ncn.layer1.weight": (C, D),
        "ncn.layer1.bias": (C,),
        "ncn.layer2.weight": (3 * L, C),
        "ncn.layer2.bias": (3 * L,),
        "final_norm.weight": (D,),
    }
    projections = [f"self_attn.{part}_proj.weight" for part in ("q", "k", "v", "out")]
    for layer in (f"transformer_layers.{number}" for number in range(L)):
        shapes |= {f"{layer}.{name}": (D, D) for name in projections}
        shapes |= {f"{layer}.norm{number}.weight": (D,) for number in (1, 2)}
        shapes[f"{layer}.feed_forward.linear1.weight"] = (FF, D)
        shapes[f"{layer}.feed_forward.linear1.bias"] = (FF,)
        shapes[f"{layer}.feed_forward.linear2.weight"] = (D, FF)
        shapes[f"{layer}.feed_forward.linear2.bias"] = (D,)
    draw = torch.Generator().manual_seed(1)
    weights = {}
    for name, shape in shapes.items():
        fixed = [value for end, value in STARTS.items() if name.endswith(end)]
        if fixed and name.startswith("ncn") and not trained:
            weights[name] = torch.full(shape, fixed[0])
        else:  # nowhere symmetric, so that swapped tensors cannot agree
            weights[name] = (0.3 if trained else 0.02) * torch.randn(shape, generator=draw)
    return weights | {"output_head.weight": weights["token_embeddings.weight"]}


@pytest.fixture
def config_class(monkeypatch: pytest.MonkeyPatch) -> type:
    """The class of the configuration object, importable only while the file is written."""
    package, module = ModuleType("ncn_architecture"), ModuleType("ncn_architecture.config")
    kind = type("NCNConfig", (), {"__module__": "ncn_architecture.config"})
    module.NCNConfig = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ncn_architecture", package)
    monkeypatch.setitem(sys.modules, "ncn_architecture.config", module)
    return kind


@pytest.fixture
def write(
    config_class: type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Path]:
    """Save a checkpoint as the published training script does, with changes to its weights."""

    def save(weights: dict[str, Tensor], **more: object) -> Path:
        config = config_class()
        config.num_heads = H  # type: ignore[attr-defined]
        content = {"model_state_dict": weights, "optimizer_state_dict": {"state": {}}}
        torch.save(
            content | {"config": config, "epoch": 0, "global_step": 7} | more, tmp_path / "x"
        )
        monkeypatch.delitem(sys.modules, "ncn_architecture.config")
        return tmp_path / "x"

    return save


def by_the_equations(w: dict[str, Tensor], tokens: Tensor) -> Tensor:
    """The published forward pass, from science's equations and torch's own attention."""

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (D,), weight, 1e-5)

    x = w["token_embeddings.weight"][tokens] + w["position_embeddings.weight"][: tokens.shape[1]]
    pooling = nn.MultiheadAttention(D, 2, batch_first=True)
    names = pooling.state_dict().keys()
    pooling.load_state_dict({name: w[f"ncn.pooling_attn.{name}"] for name in names})
    context, _ = pooling(w["ncn.control_query"].view(1, 1, D), x, x)
    hidden = norm(x + context, w["ncn.ncn_norm.weight"]) @ w["ncn.layer1.weight"].T
    z = (hidden + w["ncn.layer1.bias"]).tanh() @ w["ncn.layer2.weight"].T + w["ncn.layer2.bias"]
    z = z.unflatten(-1, (L, 3, 1))  # [B, T, L, S, 1]
    for number in range(L):
        layer = {
            name.removeprefix(f"transformer_layers.{number}."): tensor
            for name, tensor in w.items()
            if name.startswith(f"transformer_layers.{number}.")
        }
        gain, precision, gate = z[:, :, number].unbind(2)
        y = norm(x, layer["norm1.weight"])
        q, k, v = (
            (y @ layer[f"self_attn.{part}_proj.weight"].T).unflatten(-1, (H, -1)).transpose(1, 2)
            for part in "qkv"
        )
        beta = (F.softplus(precision) + 0.01).clamp(max=4).unsqueeze(1)  # [B, 1, T, 1]
        scores = beta * (q @ k.mT) * (D // H) ** -0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        heads = scores.masked_fill(future, -torch.inf).softmax(-1) @ v
        attended = heads.transpose(1, 2).flatten(2) @ layer["self_attn.out_proj.weight"].T
        x = x + 2 * gain.sigmoid() * attended
        up, down = (f"feed_forward.linear{which}" for which in (1, 2))
        y = F.linear(norm(x, layer["norm2.weight"]), layer[f"{up}.weight"], layer[f"{up}.bias"])
        fed = F.linear(F.gelu(y), layer[f"{down}.weight"], layer[f"{down}.bias"])
        x = x + 2 * gain.sigmoid() * gate.sigmoid() * fed
    return norm(x, w["final_norm.weight"]) @ w["output_head.weight"].T


def test_an_imported_model_computes_what_the_equations_say(write: Callable[..., Path]) -> None:
    weights = published_weights(trained=True)
    model = import_published(write(weights), n_heads=H)
    torch.testing.assert_close(model(TOKENS), by_the_equations(weights, TOKENS))
    assert not model.training
    assert (model.config.context_length, model.config.d_ff) == (T, FF)
    assert model.config.control is not None
    assert (model.config.control.hidden, model.config.control.salience) == (C, "global")


@pytest.mark.parametrize(
    "before", ["_orig_mod.", "module.", "module._orig_mod.", "_orig_mod.module."]
)
def test_a_compiled_or_distributed_models_checkpoint_is_the_same_model(
    write: Callable[..., Path], before: str
) -> None:
    weights = published_weights(trained=True)
    model = import_published(write({before + name: tensor for name, tensor in weights.items()}), H)
    torch.testing.assert_close(model(TOKENS), by_the_equations(weights, TOKENS))


def test_an_untrained_control_network_is_recognised(write: Callable[..., Path]) -> None:
    evidence = control_network_evidence(import_published(write(published_weights()), H))
    assert not any(item.differs for item in evidence.values())
    assert verdict(evidence).startswith("The control network does not differ")


@pytest.mark.parametrize(
    ("name", "flips"),
    [
        ("ncn.layer2.bias", {"output_bias"}),
        ("ncn.layer1.bias", {"hidden_bias"}),
        ("ncn.pooling_attn.in_proj_bias", {"pooling_bias"}),
        ("ncn.ncn_norm.weight", {"norm_weight", "norm_weight_spread"}),
    ],
)
def test_one_planted_figure_flips_the_verdict(
    write: Callable[..., Path], name: str, flips: set[str]
) -> None:
    weights = published_weights()
    weights[name][0] += 1e-6
    evidence = control_network_evidence(import_published(write(weights), H))
    assert {key for key, item in evidence.items() if item.differs} == flips
    assert "gradients have reached it" in verdict(evidence)


def test_decay_without_a_gradient_is_its_own_verdict(write: Callable[..., Path]) -> None:
    weights = published_weights()
    weights["ncn.ncn_norm.weight"] *= 0.62
    weights["ncn.layer1.weight"] *= 0.62
    evidence = control_network_evidence(import_published(write(weights), H))
    assert evidence["hidden_weight"].differs
    assert evidence["hidden_weight"].figure == pytest.approx(0.62 * 0.02, rel=0.2)
    assert "decay and no gradient" in verdict(evidence)


def test_our_own_models_are_judged_by_their_own_start(tiny: Params) -> None:
    model = build_model(tiny, "ncn", VOCABULARY, 1)  # its output biases start at 0.525 and 3
    assert not any(item.differs for item in control_network_evidence(model).values())
    tokens = torch.arange(20)[None]
    model.loss(tokens, tokens)[0].backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert "gradients have reached it" in verdict(control_network_evidence(model))
    with pytest.raises(InputError, match="no control network"):
        control_network_evidence(build_model(tiny, "baseline", VOCABULARY))
    without = special(tiny, salience="none")
    assert "pooling_bias" not in control_network_evidence(without)


def changed(**changes: Tensor | None) -> dict[str, Tensor]:
    """The random weights with some taken away or replaced (dots written as __)."""
    weights: dict[str, Any] = published_weights()
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"token_embeddings__weight": None}, r"no matrix token_embeddings\.weight"),
        ({"ncn__layer1__weight": torch.ones(3)}, r"no matrix ncn\.layer1\.weight"),
        ({"final_norm__weight": None}, r"final_norm\.weight has shape none, but .* says \(16,\)"),
        ({"surprise": torch.ones(2)}, r"surprise has shape \(2,\), but .* says none"),
        ({"_orig_mod__surprise": torch.ones(2)}, r"surprise has shape \(2,\), but .* says none"),
        ({"modul__x": torch.ones(2)}, r"modul\.x has shape \(2,\), but .* says none"),
        ({"module__ncn__layer2__bias": torch.ones(6)}, "ncn.layer2.bias name one tensor: one"),
        ({"ncn__layer2__bias": torch.ones(5)}, r"layer2\.bias has shape \(5,\), but .* \(6,\)"),
        ({"ncn__control_query": torch.ones(3)}, r"control_query has shape \(3,\)"),
        ({"output_head__weight": torch.ones(V, D)}, "should be tied"),
        ({"ncn__layer2__bias": torch.full((6,), torch.nan)}, r"layer2\.bias holds .* not finite"),
        ({"ncn__layer2__bias": torch.ones(6, dtype=torch.int64)}, "is no tensor of numbers"),
        ({"ncn__layer2__bias": torch.ones(6).to(torch.float8_e4m3fn)}, "numbers of a kind .* no"),
        ({"ncn__layer2__bias": torch.ones(6, dtype=torch.complex64)}, "numbers of a kind .* no"),
        ({"ncn__layer2__bias": "text"}, "'ncn.layer2.bias' is no tensor of numbers"),
    ],
)
def test_other_weights_are_refused_in_one_line(
    write: Callable[..., Path], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words) as refused:
        import_published(write(changed(**changes)), H)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ((3, 2), "d_model 16 is not divisible by n_heads 3"),
        ((0, 2), "n_heads: .* greater than or equal to 1"),
        ((4, 3), "d_model 16 is not divisible by .*heads 3"),
    ],
)
def test_heads_that_do_not_fit_are_refused(
    write: Callable[..., Path], heads: tuple[int, int], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        import_published(write(published_weights()), *heads)


class Runs:
    """Pickles as a call of `function`."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def planted(canary: Path) -> dict[str, Runs]:
    """Calls that would each make the file `canary`."""
    code = f"open({str(canary)!r}, 'w').close()"
    nested = pickle.dumps(Runs(exec, code), protocol=2)
    return {
        "system": Runs(os.system, f"touch '{canary}'"),
        "eval": Runs(eval, code),
        "exec": Runs(exec, code),
        "open": Runs(open, str(canary), "w"),
        "getattr": Runs(getattr, Path(str(canary)), "touch"),
        "loads": Runs(pickle.loads, nested),
        "load": Runs(torch.load, io.BytesIO(nested)),
    }


@pytest.mark.parametrize("name", planted(Path("canary")))
@pytest.mark.parametrize("where", ["beside", "in the configuration", "in place of a tensor"])
def test_a_hostile_checkpoint_runs_nothing_and_is_refused_in_one_line(
    config_class: type, write: Callable[..., Path], tmp_path: Path, name: str, where: str
) -> None:
    gadget = planted(tmp_path / "canary")[name]
    weights: dict[str, Any] = published_weights()
    more: dict[str, object] = {}
    if where == "beside":
        more = {"epoch": gadget}
    elif where == "in the configuration":
        more = {"config": config_class()}
        more["config"].d_model = gadget  # type: ignore[attr-defined]
    else:
        weights["final_norm.weight"] = gadget
    with pytest.raises(InputError, match="is refused, and nothing of it was run") as refused:
        import_published(write(weights, **more), H)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "canary").exists()


GIANT = 10**12


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (Runs(bytearray, GIANT), r"__builtin__\.bytearray"),
        (Runs(torch.Tensor, GIANT), "torch.Tensor"),
        (Runs(torch.FloatTensor, GIANT), "torch.FloatTensor"),
    ],
)
def test_a_pickle_that_asks_for_memory_gets_none(
    write: Callable[..., Path], call: Runs, name: str
) -> None:
    with pytest.raises(InputError, match=rf"nothing of it was run: it asks for {name}"):
        import_published(write(published_weights(), epoch=call), H)


def test_a_tensor_larger_than_its_numbers_is_refused(write: Callable[..., Path]) -> None:
    spread = torch.ones(1).expand(10**6, 10**6)
    with pytest.raises(InputError, match=r"final_norm\.weight has 10+ numbers of its shape, but"):
        import_published(write(changed(final_norm__weight=spread)), H)


def test_a_tensor_without_numbers_is_refused(write: Callable[..., Path]) -> None:
    nothing = changed(final_norm__weight=torch.ones(D, device="meta"))
    with pytest.raises(
        InputError, match=r"asks for torch\._utils\._rebuild_meta_tensor_no_storage"
    ):
        import_published(write(nothing), H)


def test_an_archive_that_unpacks_to_more_is_refused(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    plain = write(changed(final_norm__weight=torch.zeros(3000, 3000)))
    packed = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 50
    with pytest.raises(
        InputError, match=r"unpack to more than its \d+ bytes, and torch\.save packs"
    ):
        import_published(packed, H)


@pytest.mark.parametrize("opcode", [b"]", b"}", b"\x8f", b"("])
def test_a_pickle_of_more_than_names_and_shapes_is_not_read(tmp_path: Path, opcode: bytes) -> None:
    file = tmp_path / "x"
    with zipfile.ZipFile(file, "w") as target:  # 70 to 240 bytes of memory for each of these
        target.writestr("x/data.pkl", b"\x80\x02(" + opcode * 3_000_000 + b"t.")
    with pytest.raises(InputError, match="is refused: 3000005 bytes of names and shapes, at most"):
        import_published(file)


def test_one_long_tuple_is_not_copied_again_and_again(tmp_path: Path) -> None:
    file, once = tmp_path / "x", b"h\x01h\x00\x85R"  # torch.Size(the tuple)
    long = b"(" + b"K\x01" * 20_000 + b"tq\x00"
    with zipfile.ZipFile(file, "w") as target:  # 2.7 GB where it is read
        content = b"\x80\x02(ctorch\nSize\nq\x01" + long + once * 15_000 + b"t."
        target.writestr("x/data.pkl", content)
    with pytest.raises(InputError, match="could copy one long list again and again"):
        import_published(file)


def test_the_same_numbers_under_many_names_are_refused_before_they_are_copied(
    write: Callable[..., Path],
) -> None:
    shared = torch.zeros(100_000, dtype=torch.float16)  # each copy in fp32 takes twice the bytes
    many = {f"tensor {number}": shared for number in range(100)}
    with pytest.raises(InputError, match=r"is refused: its tensors have \d+ bytes, the file \d+"):
        import_published(write(published_weights() | many), H)


def test_a_storage_that_is_shorter_than_its_tensor_is_refused(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    plain, short = write(published_weights()), tmp_path / "short.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(short, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, content[:4] if "/data/3" in entry.filename else content)
    with pytest.raises(InputError, match=r"data/3 has 4 bytes, and a tensor asks for \d\d+"):
        import_published(short, H)


def test_a_storage_that_is_said_to_be_larger_than_it_is_is_refused(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    plain = write(published_weights())
    lying = tmp_path / "lying.pt"
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(lying, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):  # 16 numbers, said to be 2^30
                assert b"K\x10" in content
                content = content.replace(b"K\x10", b"J\x00\x00\x00\x40")
            target.writestr(entry.filename, content)
    with pytest.raises(InputError, match="has 64 bytes, and a tensor asks for 4294967296"):
        import_published(lying, H)


def test_the_planted_calls_would_run_where_a_pickle_may(tmp_path: Path) -> None:
    torch.save(planted(tmp_path / "canary")["system"], tmp_path / "x")
    torch.load(tmp_path / "x", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_the_stand_in_for_the_configuration_takes_anything_and_keeps_nothing() -> None:
    inert = published._Inert(1, os.system, command="true")
    inert.__setstate__({"__class__": Runs, "call": os.system})
    inert.__setstate__(({}, {"__class__": Runs}))
    assert type(inert) is published._Inert
    with pytest.raises(AttributeError):
        inert.anything = 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04broken", pickle.dumps([1])])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=r"no checkpoint that|is refused|expected"):
        import_published(tmp_path / "x")
    with pytest.raises(InputError, match="y does not exist"):
        import_published(tmp_path / "y")
    torch.save({"epoch": 1}, tmp_path / "x")
    with pytest.raises(InputError, match="expected a mapping with model_state_dict"):
        import_published(tmp_path / "x")


def test_the_command_prints_the_evidence_and_saves_our_format(
    write: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = write(published_weights()), tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["ncn", "import", str(file), str(out), "--heads", str(H)])
    main()
    printed = capsys.readouterr().out
    assert "output biases are up to 0 from their start" in printed
    assert "does not differ from an untrained one" in printed
    imported = import_published(file, H)
    assert torch.equal(load_model(out)(TOKENS), imported(TOKENS))
    with pytest.raises(SystemExit, match="out exists already"):
        main()


def test_the_published_size_has_the_published_count() -> None:
    shapes = published._shapes(50_257, 512, 256, 6, 1024, 64)
    count = sum(torch.Size(shape).numel() for shape in shapes.values())
    assert count - 50_257 * 256 == 18_007_762  # the output head is the embedding
