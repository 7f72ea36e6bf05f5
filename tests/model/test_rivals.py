"""The rivals of the control network, against their equations."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ncn.common.errors import InputError
from ncn.model import LanguageModel, model_config, parameter_count
from ncn.model.build import SIZES
from ncn.model.flops import flops_per_token
from ncn.model.rivals import RIVALS, static_start
from ncn.settings import Params, read_yaml, validated
from ncn.settings.model import Modulator
from tests.conftest import PARAMS, VOCABULARY, special, with_arm

GPT2 = 50_257
PLAIN = 17_726_464  # parameters of the published size without a control network
MORE = {  # of six layers with D 256, H 8
    "gated_attention": 6 * 256 * 8,
    "transponder": 6 * 2 * 2 * 2 * 256,
    "rezero": 6 * 2,
    "layerscale": 6 * 2 * 256,
    "temperature": 6 * 8,
}
PRODUCTS = {"gated_attention", "transponder"}  # counted in FLOPs: two for each parameter


def tokens(batch: int = 2, length: int = 24) -> Tensor:
    stream = torch.Generator().manual_seed(3)
    return torch.randint(VOCABULARY, (batch, length), generator=stream)


def rival(params: Params, name: str, **changes: object) -> LanguageModel:
    return special(params, controller="none", match="none", modulator=name, **changes).eval()


def neutral(model: LanguageModel, name: str) -> LanguageModel:
    """The model with its modulators at the value that does nothing; and the gates' 1/2 made up."""
    with torch.no_grad():
        for block in model.blocks:
            for parameter in block.modulator.parameters():
                parameter.fill_(1.0 if name in ("rezero", "layerscale", "temperature") else 0.0)
            if name == "gated_attention":
                block.attention.out.weight.mul_(2)
    return model


def test_there_is_one_of_each_name() -> None:
    assert {"none", *RIVALS} == {*Modulator.__args__}
    assert {*MORE} == {*RIVALS}


@pytest.mark.parametrize("name", RIVALS)
def test_it_adds_the_parameters_and_flops_of_its_equation(published: Params, name: str) -> None:
    arm = with_arm(published, controller="none", match="none", modulator=name)
    config = model_config(arm, "special", GPT2)
    assert parameter_count(config) == PLAIN + MORE[name]
    plain = config.model_copy(update={"modulator": "none"})
    more = 2 * MORE[name] if name in PRODUCTS else 0
    assert flops_per_token(config) == flops_per_token(plain) + more


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("match", SIZES)
def test_its_arm_is_as_large_as_the_others(published: Params, name: str, match: str) -> None:
    arm = with_arm(published, controller="none", match=match, modulator=name, multiple_of=1)
    size = SIZES[match]
    unit = 6 * 4 * 256 if match == "flops" else 6 * 513
    reference = size(model_config(published, "ncn", GPT2))
    assert abs(size(model_config(arm, "special", GPT2)) - reference) <= unit / 2


@pytest.mark.parametrize("name", RIVALS)
def test_neutral_values_make_the_backbone(tiny: Params, name: str) -> None:
    model = rival(tiny, name)
    plain = special(tiny, controller="none", match="none").eval()
    assert not torch.equal(model(tokens()), plain(tokens())) or name == "temperature"
    assert torch.equal(neutral(model, name)(tokens()), plain(tokens()))


@pytest.mark.parametrize("name", RIVALS)
def test_gradients_reach_all_of_its_parameters(tiny: Params, name: str) -> None:
    model = rival(tiny, name)
    cross_entropy, penalty = model.loss(tokens(), tokens().roll(1, 1))
    assert penalty == 0
    cross_entropy.backward()
    for block in model.blocks:
        # at 0 nothing in a layer learns but the scales
        assert (block.attention.qkv.weight.grad.count_nonzero() == 0) == (name == "rezero")
        for parameter in block.modulator.parameters():
            assert parameter.grad is not None
            assert torch.all(parameter.grad != 0)


def test_a_rezero_model_starts_as_its_embeddings(tiny: Params) -> None:
    model = rival(tiny, "rezero")
    x = model.embedding(tokens()) + model.positions.weight[: tokens().shape[1]]
    assert torch.equal(model(tokens()), F.linear(model.norm(x), model.embedding.weight))


def test_layerscale_starts_smaller_in_deep_models(tiny: Params) -> None:
    config = rival(tiny, "layerscale").config
    for depth, start in ((18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)):
        assert static_start(config.model_copy(update={"n_layers": depth})) == start


def test_gated_attention_is_its_equation(tiny: Params) -> None:
    block, x = rival(tiny, "gated_attention").blocks[0], torch.randn(2, 6, 32)
    normed = block.attention_norm(x)
    q, k, v = block.attention.qkv(normed).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
    heads = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)
    gates = torch.sigmoid(normed @ block.modulator.gate.weight.T)  # [B, T, H]
    after = x + block.attention.out((gates[..., None] * heads).flatten(2))
    expected = after + block.feed_forward(block.feed_forward_norm(after))
    torch.testing.assert_close(block(x)[0], expected)


def test_a_contextual_modulator_is_its_equation(tiny: Params) -> None:
    block, x = rival(tiny, "transponder").blocks[0], torch.randn(2, 6, 32)
    with torch.no_grad():
        for parameter in block.modulator.parameters():
            parameter.normal_()

    def scaled(part: str, normed: Tensor, branch: Tensor) -> Tensor:
        made = getattr(block.modulator, part)
        hidden = F.silu(normed @ made.down.weight.T)
        return 2 * torch.sigmoid(hidden @ made.up.weight.T) * branch

    normed = block.attention_norm(x)
    after = x + scaled("attention", normed, block.attention(normed)[0])
    normed = block.feed_forward_norm(after)
    expected = after + scaled("feed_forward", normed, block.feed_forward(normed))
    torch.testing.assert_close(block(x)[0], expected)


def test_a_model_without_one_does_not_speak_of_it(tiny: Params) -> None:
    """So that models saved before there were rivals are the same files."""
    assert "modulator" not in special(tiny).config.model_dump()
    assert rival(tiny, "rezero").config.model_dump()["modulator"] == "rezero"


def test_an_unknown_one_is_refused_by_its_key() -> None:
    content = read_yaml(PARAMS)
    content["arms"]["other"] = {"modulator": "gates"}
    with pytest.raises(
        InputError, match=r"arms\.other: modulator: it should be .*gated_attention.*'gates'"
    ):
        validated(Params, content, "params.yaml")
