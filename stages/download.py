"""The text, and the vocabulary's files where it is not trained here.

In:  params.yaml alone (data, tokenizer, seed); the network for tinystories-v2, url and gpt2.
Out: data/raw/text/, data/raw/tokenizer/ (gpt2, local), data/raw/manifest.json.
"""

from ncn.common.errors import run_command
from ncn.common.files import read_json
from ncn.common.paths import RAW
from ncn.settings import load_params
from ncn.settings.stage_inputs import StageInputs
from ncn.sources.fetch import fetch
from ncn.sources.local_texts import said


def main() -> None:
    """Fetch, check, put in place."""
    inputs = StageInputs("download")
    params = load_params()
    fetch(params.data, params.tokenizer, params.seed, RAW, inputs.check)
    manifest = read_json(RAW / "manifest.json")
    megabytes = sum(file["bytes"] for file in manifest["files"]) / 1e6
    words = f"{len(manifest['files'])} files, {megabytes:.1f} MB of {params.data.source} in {RAW}"
    print(words + said(manifest.get("left_out", {})))


if __name__ == "__main__":
    run_command(main)
