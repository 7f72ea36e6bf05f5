"""The model card that a hub shows: made from the model's configuration and metrics/.

Nothing in it is typed: a figure comes from the file that the pipeline wrote, and the words beside
it are those of the comparison.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment

from ncn.analysis.verdict import reads_the_future, score_reads_the_future
from ncn.common.errors import InputError
from ncn.common.files import read_json
from ncn.common.paths import COMPARISON, SUMMARY, evaluation_metrics, training_metrics
from ncn.model import LanguageModel, parameter_count
from ncn.publish.repository import loads_in_transformers
from ncn.report.templates import environment, filled_from
from ncn.settings import Params, load_params

TEMPLATE = "model_card.md.j2"


def model_card(model: LanguageModel, repo: str, run: str | None = None) -> str:
    """The text of README.md for `model` in `repo`.

    Args:
        model: what the card describes.
        repo: the repository, for the lines that load it.
        run: the run (ARM-SEED) that trained it, whose figures in metrics/ the card tells. Without
            one it says that the model was not scored.

    Raises:
        InputError: the run's figures are missing, or are those of a model of another size.
    """
    templates = environment(Path(__file__).parent)
    templates.filters["reads_the_future"] = reads_the_future
    if run is None:
        return _filled(templates, model, repo, None, None)
    paths = (training_metrics(run), evaluation_metrics(run), SUMMARY, COMPARISON)
    with filled_from(*paths):
        return _filled(templates, model, repo, _results(model, run), load_params())


def _filled(
    templates: Environment,
    model: LanguageModel,
    repo: str,
    results: dict[str, Any] | None,
    params: Params | None,
) -> str:
    return templates.get_template(TEMPLATE).render(
        metadata=_metadata(model, repo, results, params).to_yaml(),
        repo=repo,
        config=model.config,
        in_transformers=loads_in_transformers(model.config),
        parameters=parameter_count(model.config),
        results=results,
        params=params,
    )


def _results(model: LanguageModel, run: str) -> dict[str, Any]:
    """What metrics/ holds of a run, and of the arms beside it."""
    trained = read_json(training_metrics(run))
    mine = {"parameters": parameter_count(model.config), "d_ff": model.config.d_ff}
    for key, value in mine.items():
        if trained[key] != value:
            raise InputError(
                f"{training_metrics(run)} is of another model: its {key} is {trained[key]:,},"
                f" this model's {value:,}"
            )
    return {
        "run": run,
        "trained": trained,
        "scored": read_json(evaluation_metrics(run)),
        "summary": read_json(SUMMARY),
        "comparison": read_json(COMPARISON),
    }


def _metadata(
    model: LanguageModel, repo: str, results: dict[str, Any] | None, params: Params | None
) -> ModelCardData:
    """The front matter. A perplexity that was helped by the future is not passed on as a result."""
    from_hub = params is not None and params.data.source == "tinystories-v2"
    data: dict[str, Any] = {
        "language": "en",
        "license": "mit",
        "library_name": "transformers" if loads_in_transformers(model.config) else "ncn-pipeline",
        "pipeline_tag": "text-generation",
        "tags": ["neuromodulatory-control-network", "pytorch", "safetensors"],
    }
    if params is not None and from_hub:
        data["datasets"] = [params.data.hub.repo]
    if results is None or params is None:
        return ModelCardData(**data)
    scored = results["scored"]
    figures = {"Loss (nats a token)": "val_loss", "Perplexity": "val_ppl"}
    if score_reads_the_future(scored, scored["scores"]):
        figures = {}
    elif reads_the_future(scored):
        figures = {f"{name}, scored causally": key for name, key in figures.items()}
    return ModelCardData(
        **data,
        model_name=repo.partition("/")[2] or repo,
        eval_results=[
            EvalResult(
                task_type="text-generation",
                dataset_type=params.data.hub.repo if from_hub else params.data.source,
                dataset_name="TinyStoriesV2, validation part" if from_hub else "validation part",
                metric_type="loss" if key == "val_loss" else "perplexity",
                metric_name=name,
                metric_value=scored[key],
            )
            for name, key in figures.items()
            if key in scored
        ],
    )
