"""The files of a model as a hub keeps them: read by this project and by the transformers library.

model.safetensors and config.json; the tokenizer, as vocab.json and merges.txt and as transformers
reads it; and the code that transformers runs, where it is trusted to:

    AutoModelForCausalLM.from_pretrained("OWNER/NAME", trust_remote_code=True)

That code is `hub_code/`. Nothing here needs transformers. Some mechanisms it does not compute
(`loads_in_transformers`): such a model is for this project alone.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import tokenizers
from safetensors.torch import save_file

from ncn.common.errors import InputError
from ncn.common.files import write_json
from ncn.control.outputs import outputs
from ncn.corpus.tokenizer import load_tokenizer
from ncn.model import LanguageModel
from ncn.model.checkpoint import CONFIG, WEIGHTS
from ncn.settings import END_OF_TEXT, ModelConfig
from ncn.signals import SIGNALS, Site

CODE = Path(__file__).parent / "hub_code"
MODULES = ("configuration_ncn.py", "modeling_ncn.py")
ARCHITECTURE = "NCNForCausalLM"
TOKENIZER_FILES = ("vocab.json", "merges.txt")
COMPUTED: set[Site] = {"queries", "attention", "feed_forward", "layer", "slope"}


def write_repository(
    model: LanguageModel, directory: Path, tokenizer: str | Path | None = None
) -> None:
    """Write what a repository holds of `model`, but for its card, into an empty directory.

    Args:
        model: its weights and configuration.
        directory: exists.
        tokenizer: a directory with vocab.json and merges.txt, to go along.

    Raises:
        InputError: the tokenizer is damaged, or of another model.
    """
    if tokenizer is not None:
        size = load_tokenizer(tokenizer).vocab_size
        if size != model.config.vocab_size:
            raise InputError(
                f"{tokenizer} has {size:,} tokens, the model {model.config.vocab_size:,}"
            )
        _write_tokenizer(Path(tokenizer), directory, model.config.context_length)
    own = {"ncn": json.loads(model.config.model_dump_json())}
    known = loads_in_transformers(model.config)
    write_json(directory / CONFIG, transformers_config(model.config) if known else own)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in model.state_dict().items()}
    save_file(tensors, directory / WEIGHTS, metadata={"format": "pt"})  # transformers asks for it
    for module in MODULES if known else ():
        shutil.copyfile(CODE / module, directory / module)


def loads_in_transformers(config: ModelConfig) -> bool:
    """Whether `hub_code/` computes such a model: no rival of the control network, no experts, no
    task tokens, no controller with a state, no signals that read a layer's own input or act where
    it has no site.
    """
    plain = config.modulator == "none" and config.experts == 1 and not config.task_tokens
    if config.control is None:
        return plain
    sites = {site for name in config.control.signals for site in SIGNALS[name].sites}
    control = config.control.controller != "recurrent" and config.control.phasic == "embedding"
    return plain and control and sites <= COMPUTED


def transformers_config(config: ModelConfig) -> dict[str, Any]:
    """config.json: what this project reads is in `ncn`, the rest is for transformers."""
    return {
        "model_type": "ncn",
        "architectures": [ARCHITECTURE],
        "auto_map": {
            "AutoConfig": "configuration_ncn.NCNConfig",
            "AutoModelForCausalLM": f"modeling_ncn.{ARCHITECTURE}",
        },
        "dtype": "float32",
        "ncn": json.loads(config.model_dump_json()),
        "outputs": [
            {
                "name": name,
                "transformation": transformation,
                "width": width,
                "per": SIGNALS[name].width,
                "sites": list(SIGNALS[name].sites),
            }
            for name, (transformation, width) in outputs(config).items()
        ],
    }


def _write_tokenizer(source: Path, directory: Path, context_length: int) -> None:
    """vocab.json and merges.txt of `source`, and what transformers makes its tokenizer of."""
    for name in TOKENIZER_FILES:
        shutil.copyfile(source / name, directory / name)
    vocabulary, merges = (str(directory / name) for name in TOKENIZER_FILES)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE.from_file(vocabulary, merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([END_OF_TEXT])
    tokenizer.save(str(directory / "tokenizer.json"))
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **dict.fromkeys(("bos_token", "eos_token", "pad_token"), END_OF_TEXT),
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_length,
    }
    write_json(directory / "tokenizer_config.json", about)
    end = tokenizer.token_to_id(END_OF_TEXT)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), end)
    write_json(directory / "generation_config.json", ids)
