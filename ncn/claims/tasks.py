"""Rules about what a model is told from outside, and about precision as a temperature."""

from ncn.claims.rule import (
    BENCH,
    EVALUATE,
    GENERATE,
    NO,
    SCAN,
    YES,
    ElsewhereError,
    Finding,
    Metrics,
    MissingError,
    claim,
    look,
)
from ncn.claims.seeds import answers, finding, of_the_method, settled
from ncn.common.paths import BENCHMARK, SAMPLES, SCAN_TESTS
from ncn.settings import Params

SMALL_COST = 0.05  # share of a token's time
SLIDER_WORTH = 0.1  # standard deviations of the text for one of the slider
RHO_WORTH = 0.1  # a rank correlation


@claim("multi_task", "Multi-task learning improves", "6.1", EVALUATE, needs=None)
def tasks_beat_tokens(metrics: Metrics) -> Finding:
    """The first arm whose control network is told the task (`ncn.tasks`) and no task token, against
    the first arm without a control network that is told it by one (`model.task_tokens`), at equal
    parameters, on texts of several files. Supported if its loss is lower by the 95 % interval over
    at least two seeds, real but negligible if by surely less than 0.01 nats; not supported if
    surely by less than that and not surely lower; else undecided; not testable without such arms,
    or of one file.
    """
    params = metrics.params
    told = [
        arm
        for arm in params.arms
        if params.control_network(arm).reads
        and params.control_network(arm).tasks
        and not params.model_of(arm).task_tokens
    ]
    token = [
        arm
        for arm in params.arms
        if params.control_network(arm).controller == "none" and params.model_of(arm).task_tokens
    ]
    if not told or not token:
        raise ElsewhereError(
            "it takes an arm with ncn.tasks, and one without a control network with"
            " model.task_tokens"
        )
    if one_file(params):
        raise ElsewhereError("the text is one file, and a task is a file")
    mine, theirs = (answers(metrics, arm[0], "loss") for arm in (told, token))
    gains = [by_token - by_control for by_control, by_token in zip(mine, theirs, strict=True)]
    return finding(
        of_the_method(gains),
        gains,
        f"The loss of {told[0]} is lower than that of {token[0]} by {{}}",
        "nats a token",
    )


def one_file(params: Params) -> bool:
    """Whether the text is one file, as far as the settings say."""
    if params.data.source == "tinystories-v2":
        return len(params.data.hub.files) == 1
    return params.data.source != "local"


@claim("steering", "Sliders steer what is generated", "3.2", GENERATE)
def sliders_steer(metrics: Metrics, arm: str) -> Finding:
    """Validation rows are continued with each slider at several values, and without it. By slider,
    how many standard deviations what the text measures rises for one of the slider. Supported if
    that of the weakest slider is above 0 by the 95 % interval over at least two seeds, real but
    negligible if surely below 0.1 at that; not supported if below that and not surely above 0; else
    undecided; not testable for an arm without sliders.
    """
    if not metrics.samples:
        raise MissingError(str(SAMPLES))
    steered = metrics.samples.get("steering", {})
    runs = metrics.runs(arm)
    if not any(run in steered for run in runs):
        raise ElsewhereError(f"{arm} has no slider (ncn.sliders)")
    names = list(look(steered, SAMPLES, runs[0]))
    slopes = {
        name: [look(steered, SAMPLES, run, name, "slope")[0] for run in runs] for name in names
    }
    weakest = min(slopes, key=lambda name: sum(slopes[name]))
    effect, shown = of_the_method(slopes[weakest]), []
    for name, values in slopes.items():
        each, mean = of_the_method(values), sum(values) / len(values)
        ends = "" if each is None else f" [{each.low:+.3f}, {each.high:+.3f}]"
        shown.append(f"{name} {mean:+.3f}{ends}")
    return Finding(
        settled(effect, SLIDER_WORTH),
        f"One standard deviation of a slider moves what the text measures by {'; '.join(shown)}"
        f" standard deviations over {len(runs)} seed{'' if len(runs) == 1 else 's'}.",
        sum(slopes[weakest]) / len(runs),
        None if effect is None else [effect.low, effect.high],
        "standard deviations of the text",
    )


@claim("switching", "Tasks and styles are switched without overhead", "", BENCH, needs=None)
def switched_for_nothing(metrics: Metrics) -> Finding:
    """The time of a generated token when the task and a slider change before each, against being
    told the same throughout (`make bench`). Supported if it is at most 1.05 of it; not supported if
    more.
    """
    forms = look(metrics.benchmark, BENCHMARK, "switching", "forms")
    ratio = look(forms, BENCHMARK, "told anew", "ratio")
    untold = look(forms, BENCHMARK, "told nothing", "ratio")
    return Finding(
        YES if ratio <= 1 + SMALL_COST else NO,
        f"A token takes {ratio:.3f} of the time when task and slider change before it, and"
        f" {untold:.3f} when none is told.",
        ratio,
        unit="time, told the same = 1",
    )


@claim(
    "temperature",
    "Precision is a temperature: lower where the next token is open",
    "",
    SCAN,
    needs=("precision",),
)
def precision_is_a_temperature(metrics: Metrics, arm: str) -> Finding:
    """The rank correlation of a token's precision with the entropy of the model's next token, mean
    over layers. Supported if it is below 0 by the 95 % interval over at least two seeds, real but
    negligible if surely above -0.1 at that; not supported if above that and not surely below 0;
    else undecided. Whether a text is creative is not measured: this is the part that can be tested.
    """
    tests = [metrics.scan(run, "temperature") for run in metrics.runs(arm)]
    by_run = [
        [look(layer, SCAN_TESTS, "rho")[0] for layer in look(test, SCAN_TESTS, "layers")]
        for test in tests
    ]
    if not all(by_run):
        raise MissingError(f"a precision of {arm} that varies")
    means = [sum(layers) / len(layers) for layers in by_run]
    number = max(map(len, by_run))
    shown = ", ".join(
        f"{sum(layers[n] for layers in by_run if n < len(layers)) / len(by_run):+.3f}"
        for n in range(number)
    )
    return finding(
        of_the_method([-each for each in means]),
        [-each for each in means],
        f"Rank correlation with the next token's entropy by layer {shown}; its mean is below 0 by"
        " {}",
        "rank correlation, sign changed",
        RHO_WORTH,
    )
