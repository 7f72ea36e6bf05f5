"""A checkpoint of the published implementation: read without running it, judged, converted.

The file is a pickle. It is read by torch's restricted reader, which builds tensors and plain
containers and refuses every other name, but for one: the configuration object, in whose place
comes an object that does nothing. So no code of the file's choosing runs. It may name nothing but
what tensors are made of; its tensors may not be packed, and are mapped; the pickle around them, of
which a byte can take 240 of memory (an empty set), is 1 MB at most. Names of tensors, and what
follows from their shapes, are in `_shapes` and `_converted`.

The control network is then compared with an untrained one. At the published initialisation every
bias of it is exactly 0 and every norm weight exactly 1; a single optimiser step with a gradient
moves both. Decay without a gradient would shrink all norm weights alike and leave the biases.
"""

import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor

from ncn.common.errors import InputError
from ncn.control.network import ControlNetwork
from ncn.control.outputs import start_at_declared_signals
from ncn.model import LanguageModel
from ncn.model.checkpoint import assemble, check_shapes
from ncn.published.run_1 import PUBLISHED_SETTINGS, PUBLISHED_SIGNALS
from ncn.settings import ControlSettings, ModelConfig

CONFIG_CLASS = "ncn_architecture.config.NCNConfig"
# What torch.save writes for tensors and plain values. The reader itself would also make buffers and
# tensors of any size that a file asks for.
NAMES = re.compile(
    r"collections OrderedDict|torch Size|torch \w+Storage|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor_v2|parameter)"
)
MOST_PICKLE_BYTES = 1 << 20  # of names and shapes; run 1 has some 10 kB
CALLS = {"REDUCE", "BUILD", "NEWOBJ", "NEWOBJ_EX", "OBJ", "INST"}
MOST_COPIED = 100_000_000  # calls times bytes, each of which a call may copy as 8; run 1 some 5 M
STORAGES = {  # bytes a number
    f"{kind}Storage": n_bytes
    for n_bytes, kinds in {
        1: ("Bool", "Byte", "Char"),
        2: ("BFloat16", "Half", "Short"),
        4: ("Float", "Int"),
        8: ("Double", "Long"),
    }.items()
    for kind in kinds
}
TIED = "output_head.weight"
LAYER = re.compile(r"transformer_layers\.\d+\.")
# What torch puts before a tensor's name: torch.compile, DistributedDataParallel.
WRAPPERS = ("_orig_mod.", "module.")
WEIGHT_STD = 0.02  # of linear weights at initialisation, published and here
STANDARD_ERRORS = 5  # a standard deviation this far from WEIGHT_STD is no draw of it

# What shapes do not tell of the control network, as run 1 had it.
PUBLISHED_CONTROL: dict[str, Any] = {
    key.removeprefix("ncn."): value
    for key, value in PUBLISHED_SETTINGS.items()
    if key.startswith("ncn.")
} | {"controller": "network", "salience": "global", "init": "zero", "frozen": False}


def import_published(
    path: str | Path, n_heads: int = 8, pooling_heads: int = 2, dropout: float = 0.1
) -> LanguageModel:
    """The model of a published checkpoint, in evaluation mode.

    Args:
        path: what the published training script saved; nothing in it is executed.
        n_heads: of the attention, which shapes do not tell; published 8.
        pooling_heads: of the salience pooling, likewise; published 2.
        dropout: of further training; published 0.1.

    Raises:
        InputError: the file is missing or no such checkpoint, names anything but tensors, or a
            tensor is missing, too many, of another shape or not finite.
    """
    weights = _read(Path(path))
    vocab_size, d_model = _sides(weights, "token_embeddings.weight", path)
    context_length, _ = _sides(weights, "position_embeddings.weight", path)
    hidden, _ = _sides(weights, "ncn.layer1.weight", path)
    d_ff, _ = _sides(weights, "transformer_layers.0.feed_forward.linear1.weight", path)
    n_layers = len({name.split(".")[1] for name in weights if LAYER.match(name)})
    expected = _shapes(vocab_size, context_length, d_model, n_layers, d_ff, hidden)
    query = weights.get("ncn.control_query")
    if query is not None and query.numel() == d_model:  # saved as [1, 1, D]
        weights["ncn.control_query"] = query.flatten()
    check_shapes(weights, expected, str(path), "the shape of the others")
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        raise InputError(f"{path}: {broken[0]} holds values that are not finite")
    if not torch.equal(weights[TIED], weights["token_embeddings.weight"]):
        raise InputError(
            f"{path}: output_head.weight is not token_embeddings.weight: the two should be tied"
        )
    control = PUBLISHED_CONTROL | {"hidden": hidden, "heads": pooling_heads}
    try:
        config = ModelConfig(
            vocab_size=vocab_size,
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            d_ff=d_ff,
            context_length=context_length,
            dropout=dropout,
            control=ControlSettings.model_validate(control),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        key = "".join(f"{part}: " for part in problem["loc"])
        raise InputError(f"{path}: {key}{problem['msg'].removeprefix('Value error, ')}") from None
    if pooling_heads < 1 or d_model % pooling_heads:
        raise InputError(f"{path}: d_model {d_model} is not divisible by heads {pooling_heads}")
    return assemble(config, _converted(weights, n_layers), str(path))


class _Inert:
    """Stands in for the configuration object: takes any arguments and any state, keeps nothing."""

    __slots__ = ()

    def __new__(cls, *arguments: object, **options: object) -> "_Inert":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


def _check_archive(path: Path) -> None:
    """See that the file is what torch.save writes, and no larger inside than it is.

    Raises:
        InputError: it is not.
        Exception: of zipfile and pickletools, where it is broken.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        packed = [each.filename for each in entries if each.compress_type != zipfile.ZIP_STORED]
        if packed or sum(each.file_size for each in entries) > size:
            raise InputError(
                f"{path} is refused: it would unpack to more than its {size} bytes, and torch.save"
                " packs nothing"
            )
        (pickled,) = (each for each in entries if each.filename.endswith("/data.pkl"))
        if pickled.file_size > MOST_PICKLE_BYTES:
            raise InputError(
                f"{path} is refused: {pickled.file_size} bytes of names and shapes, at most"
                f" {MOST_PICKLE_BYTES} are read"
            )
        content = archive.read(pickled)
        held = {each.filename: each.file_size for each in entries}
        for key, needed in _storages(content, path):
            place = f"{pickled.filename.removesuffix('data.pkl')}data/{key}"
            if needed != held.get(place):
                raise InputError(
                    f"{path} is refused: {place} has {held.get(place, 0)} bytes, and a tensor asks"
                    f" for {needed}"
                )
        calls = 0
        for code, name, _ in pickletools.genops(content):
            calls += code.name in CALLS
            if calls * pickled.file_size > MOST_COPIED:
                raise InputError(
                    f"{path} is refused: so many calls in {pickled.file_size} bytes of names and"
                    " shapes could copy one long list again and again"
                )
            if code.name == "STACK_GLOBAL":
                raise InputError(f"{path} is refused: its names are not written as torch.save does")
            if code.name in ("GLOBAL", "INST") and not (
                NAMES.fullmatch(str(name)) or str(name).replace(" ", ".") == CONFIG_CLASS
            ):
                raise InputError(
                    f"{path} is refused, and nothing of it was run: it asks for"
                    f" {str(name).replace(' ', '.')}, and a checkpoint needs no more than tensors"
                    f" and {CONFIG_CLASS}"
                )


def _storages(pickled: bytes, path: Path) -> Iterator[tuple[str, int]]:
    """The name and the bytes of each storage that a pickle asks for, as torch.save asks for it.

    The reader maps the file, and would take what lies behind a storage that is too short.

    Raises:
        InputError: a tensor is of numbers that no published checkpoint has, as of 8 bits.
        LookupError, ValueError: it is asked for otherwise.
    """
    memo: dict[object, object] = {}
    pushed: list[object] = []
    for code, argument, _ in pickletools.genops(pickled):
        if code.name in ("BINPUT", "LONG_BINPUT") and pushed:
            memo[argument] = pushed[-1]
        elif code.name in ("BINGET", "LONG_BINGET"):
            pushed.append(memo.get(argument))
        elif code.name == "BINPERSID":
            what, kind, key, _, length = pushed[-5:]
            if what != "storage" or not isinstance(length, int):
                raise ValueError("no storage of a tensor")
            if (of := str(kind).removeprefix("torch ")) not in STORAGES:
                raise InputError(
                    f"{path} is refused: it has numbers of a kind ({of}) that no published"
                    " checkpoint has: floating point of 16, 32 or 64 bits is read"
                )
            yield str(key), length * STORAGES[of]
        elif argument is not None:
            pushed.append(argument)


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of model_state_dict in float32, by their published names."""
    try:
        _check_archive(path)
        with torch.serialization.safe_globals([(_Inert, CONFIG_CLASS)]):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except InputError:
        raise
    except Exception as error:  # a hostile or broken file makes the reader raise anything
        if named := re.search(r"GLOBAL (\S+)", str(error)):
            raise InputError(
                f"{path} is refused, and nothing of it was run: it asks for {named[1]}, and a"
                f" checkpoint needs no more than tensors and {CONFIG_CLASS}"
            ) from None
        raise InputError(
            f"{path} is no checkpoint that can be read without running code in it"
            f" ({type(error).__name__})"
        ) from None
    weights = content.get("model_state_dict") if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise InputError(f"{path}: expected a mapping with model_state_dict in it")
    for name, tensor in weights.items():
        if not (
            isinstance(name, str)
            and isinstance(tensor, Tensor)
            and tensor.layout == torch.strided
            and tensor.is_floating_point()
        ):
            raise InputError(f"{path}: model_state_dict: {name!r} is no tensor of numbers")
        if tensor.device.type != "cpu" or tensor.nbytes > tensor.untyped_storage().nbytes():
            raise InputError(
                f"{path}: {name} has {tensor.numel()} numbers of its shape, but fewer in the file"
            )
    # The head is the embedding again. Others that overlap would be copied, each, when converted.
    told = sum(each.nbytes for name, each in weights.items() if _unwrapped(name) != TIED)
    if told > (size := path.stat().st_size):
        raise InputError(f"{path} is refused: its tensors have {told} bytes, the file {size}")
    by_name: dict[str, str] = {}
    for name in weights:
        if (other := by_name.setdefault(_unwrapped(name), name)) != name:
            raise InputError(f"{path}: {other} and {name} name one tensor: one should go")
    return {_unwrapped(name): tensor.detach().float() for name, tensor in weights.items()}


def _unwrapped(name: str) -> str:
    """The name that a tensor has in the model itself, whatever was wrapped around the model."""
    while name.startswith(WRAPPERS):
        name = name.partition(".")[2]
    return name


def _sides(weights: Mapping[str, Tensor], name: str, path: str | Path) -> tuple[int, int]:
    """Rows and columns of a matrix that has to be there."""
    if name not in weights or weights[name].dim() != 2:
        raise InputError(f"{path}: no matrix {name}: not a checkpoint of the published model")
    rows, columns = weights[name].shape
    return rows, columns


def _shapes(
    vocab_size: int, context_length: int, d_model: int, n_layers: int, d_ff: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    """Every tensor of a published checkpoint, and its shape."""
    signals = n_layers * len(PUBLISHED_SIGNALS)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embeddings.weight": (vocab_size, d_model),
        "position_embeddings.weight": (context_length, d_model),
        "ncn.control_query": (d_model,),
        "ncn.pooling_attn.in_proj_weight": (3 * d_model, d_model),
        "ncn.pooling_attn.in_proj_bias": (3 * d_model,),
        "ncn.pooling_attn.out_proj.weight": (d_model, d_model),
        "ncn.pooling_attn.out_proj.bias": (d_model,),
        "ncn.ncn_norm.weight": (d_model,),
        "ncn.layer1.weight": (hidden, d_model),
        "ncn.layer1.bias": (hidden,),
        "ncn.layer2.weight": (signals, hidden),
        "ncn.layer2.bias": (signals,),
        "final_norm.weight": (d_model,),
        "output_head.weight": (vocab_size, d_model),
    }
    layer: dict[str, tuple[int, ...]] = {
        "norm1.weight": (d_model,),
        "norm2.weight": (d_model,),
        "feed_forward.linear1.weight": (d_ff, d_model),
        "feed_forward.linear1.bias": (d_ff,),
        "feed_forward.linear2.weight": (d_model, d_ff),
        "feed_forward.linear2.bias": (d_model,),
    } | {f"self_attn.{part}_proj.weight": (d_model, d_model) for part in ("q", "k", "v", "out")}
    for number in range(n_layers):
        shapes |= {f"transformer_layers.{number}.{name}": shape for name, shape in layer.items()}
    return shapes


def _converted(theirs: Mapping[str, Tensor], n_layers: int) -> dict[str, Tensor]:
    """The tensors by our names. The output head is our embedding, so it is left out.

    The rows of the controller's output are layer-major, then gain, precision, ffn_gate: as ours.
    """
    ours = {
        "embedding.weight": theirs["token_embeddings.weight"],
        "positions.weight": theirs["position_embeddings.weight"],
        "norm.weight": theirs["final_norm.weight"],
        "control.pooling.query": theirs["ncn.control_query"],
        "control.norm.weight": theirs["ncn.ncn_norm.weight"],
    }
    for kind in ("weight", "bias"):
        stacked = theirs[f"ncn.pooling_attn.in_proj_{kind}"].chunk(3)
        for part, tensor in zip(("q", "k", "v"), stacked, strict=True):
            ours[f"control.pooling.{part}_proj.{kind}"] = tensor
        ours[f"control.pooling.out_proj.{kind}"] = theirs[f"ncn.pooling_attn.out_proj.{kind}"]
        ours[f"control.hidden.{kind}"] = theirs[f"ncn.layer1.{kind}"]
        ours[f"control.output.{kind}"] = theirs[f"ncn.layer2.{kind}"]
    for number in range(n_layers):
        there, here = f"transformer_layers.{number}", f"blocks.{number}"
        attention = [theirs[f"{there}.self_attn.{part}_proj.weight"] for part in ("q", "k", "v")]
        ours |= {
            f"{here}.attention.qkv.weight": torch.cat(attention),
            f"{here}.attention.out.weight": theirs[f"{there}.self_attn.out_proj.weight"],
            f"{here}.attention_norm.weight": theirs[f"{there}.norm1.weight"],
            f"{here}.feed_forward_norm.weight": theirs[f"{there}.norm2.weight"],
        }
        for kind in ("weight", "bias"):
            ours[f"{here}.feed_forward.up.{kind}"] = theirs[f"{there}.feed_forward.linear1.{kind}"]
            ours[f"{here}.feed_forward.down.{kind}"] = theirs[
                f"{there}.feed_forward.linear2.{kind}"
            ]
    return ours


class Evidence(NamedTuple):
    """One figure of a control network beside the same figure of an untrained one."""

    figure: float
    untrained: float
    differs: bool
    words: str


def control_network_evidence(model: LanguageModel) -> dict[str, Evidence]:
    """What tells a trained control network from an untrained one, by name.

    `output_bias`, `hidden_bias`, `pooling_bias`: the largest distance of a bias from its start,
    exactly 0 when untrained. `norm_weight`: the same of the norm weights, which start at 1.
    `norm_weight_spread`: the largest norm weight less the smallest: 0 while nothing but decay
    has acted. `hidden_weight`, `output_weight`: standard deviations, 0.02 at initialisation.

    Raises:
        InputError: the model has no control network.
    """
    control = model.control
    if not isinstance(control, ControlNetwork):
        raise InputError("this model has no control network that could be trained or not")
    start = torch.empty_like(control.output.bias)
    start_at_declared_signals(start, model.config)
    with torch.no_grad():
        evidence = {
            "output_bias": _exact("output biases", control.output.bias, start),
            "hidden_bias": _exact("biases of the hidden layer", control.hidden.bias, 0.0),
            "norm_weight": _exact("norm weights", control.norm.weight, 1.0),
            "hidden_weight": _drawn("weights of the hidden layer", control.hidden.weight),
            "output_weight": _drawn("output weights", control.output.weight),
        }
        if control.pooling is not None:  # the key bias drops out of the softmax: no gradient, ever
            biases = [getattr(control.pooling, f"{part}_proj").bias for part in ("q", "v", "out")]
            evidence["pooling_bias"] = _exact("biases of the pooling", torch.cat(biases), 0.0)
        weight = control.norm.weight
        spread = float(weight.max() - weight.min())
        evidence["norm_weight_spread"] = Evidence(
            spread,
            0.0,
            spread != 0,
            f"norm weights differ among themselves by up to {spread:.3g}; decay alone keeps them"
            " equal",
        )
    return evidence


def verdict(evidence: Mapping[str, Evidence]) -> str:
    """What the evidence says, in one sentence."""
    exact = [name for name in evidence if name.endswith(("bias", "spread"))]
    if any(evidence[name].differs for name in exact):
        return "The control network differs from an untrained one: gradients have reached it."
    if evidence["norm_weight"].differs:
        return (
            "The control network shows decay and no gradient: its norm weights are all equal and"
            " not 1, its biases are where they started."
        )
    if any(item.differs for item in evidence.values()):
        return (
            "The biases and norm weights of the control network are those of an untrained one,"
            " its weight matrices are not a fresh draw: initialised otherwise, or changed by hand."
        )
    return "The control network does not differ from an untrained one: nothing has moved it."


def _exact(what: str, values: Tensor, start: Tensor | float) -> Evidence:
    distance = float((values - start).abs().max())
    words = f"{what} are up to {distance:.3g} from their start; untrained, exactly 0"
    return Evidence(distance, 0.0, distance != 0, words)


def _drawn(what: str, weights: Tensor) -> Evidence:
    """The standard deviation against that of n draws of N(0, 0.02): its error is std/sqrt(2n)."""
    std = float(weights.std())
    margin = STANDARD_ERRORS * WEIGHT_STD / (2 * weights.numel()) ** 0.5
    words = f"{what} have standard deviation {std:.4f}; untrained, {WEIGHT_STD} ± {margin:.4f}"
    return Evidence(std, WEIGHT_STD, abs(std - WEIGHT_STD) > margin, words)
