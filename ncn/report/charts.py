"""The charts, as Vega-Lite specifications: the report draws them alive, and as pictures for print.

A chart names its colours as CSS does (`var(--arm-0)`, `currentColor`), so one specification serves
light and dark pages. Data is named, not held: a page has each table once. Every chart of arms has
the parameter `shown`, the arms that are switched on.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ncn.signals import SIGNALS

Spec = dict[str, Any]

ON_DARK = {"#333333": "#D9DDE3", "#0072B2": "#3D9BD6", "#882255": "#C4669A"}
ON_DARK |= {"#6A51A3": "#A08CD0", "#117733": "#4CAF6D"}

# Of every scan of a signal, over its declared scale: the middle is neutral, so pictures compare.
SCAN_COLOURS = ("#2166AC", "#F1F1EF", "#B2182B")

# Of the fonts of vl-convert itself, so that a picture is the same on every machine.
FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
CONFIG: Spec = {
    "font": FONT,
    "background": "transparent",
    "aria": False,  # the element around the chart says what it shows
    "padding": 2,
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--muted)",
        "titleColor": "var(--muted)",
        "gridColor": "var(--line)",
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
    },
    "axisX": {"grid": False, "domain": True, "domainColor": "var(--line)"},
    "axisY": {"minExtent": 30},
}


def learning_curves(
    colours: Mapping[str, str],
    y: str,
    title: str,
    *,
    data: str = "curves",
    log_y: bool = False,
    smooth: bool = False,
) -> Spec:
    """A logged figure against the tokens seen: thin each run, bold the mean of an arm.

    Args:
        colours: arm -> colour, of the arms in the chart; an arm left out is not drawn.
        y: the column; rows have arm, seed, tokens and it.
        title: of the vertical axis, with the unit.
        data: the name of the table.
        log_y: a logarithmic vertical axis.
        smooth: average the bold line over bins of equal width on the logarithmic axis, for noisy
            series. (An EWMA would trail the steep start by far.)
    """
    log = {"type": "log", "nice": False}
    x = _quantity("tokens", "training tokens", scale=log, ticks=6)
    x["axis"]["format"] = "~s"
    vertical = _quantity(y, title, scale=log if log_y else {"zero": False}, ticks=6)
    vertical["axis"]["grid"] = not log_y  # its lines would be many
    bins = "floor(log(datum.tokens) / LN10 * 12)" if smooth else "datum.tokens"
    mean = [
        {"calculate": bins, "as": "bin"},
        {
            "aggregate": [
                {"op": "mean", "field": "tokens", "as": "tokens"},
                {"op": "mean", "field": y, "as": y},
            ],
            "groupby": ["arm", "bin"],
        },
    ]
    colour = _colour(colours)
    thin = {"type": "line", "strokeWidth": 0.8, "opacity": 0.35}
    each_run = {"x": x, "y": vertical, "color": colour, "detail": {"field": "seed"}}
    return _of_arms(
        colours,
        data=data,
        transform=[{"filter": f"isValid(datum[{json.dumps(y)}])"}],
        layer=[
            {"mark": thin, "encoding": each_run},
            {
                "transform": mean,
                "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 14}},
                "encoding": {"x": x, "y": vertical, "color": colour},
            },
            _hover(list(colours), x, y),
        ],
    )


def gap_to_baseline(colours: Mapping[str, str]) -> Spec:
    """How much higher each arm's loss is than the baseline's, against the tokens seen."""
    chart = learning_curves(colours, "gap", "loss, arm − baseline", data="gap", smooth=True)
    zero = {"data": {"values": [{"zero": 0}]}, "encoding": {"y": {"datum": 0}}}
    rule = {"mark": {"type": "rule", "color": "var(--rule)", "strokeDash": [4, 3]}}
    return chart | {"layer": [zero | rule, *chart["layer"]]}


def curve_ends(colours: Mapping[str, str], slope_share: float) -> Spec:
    """Both moving averages in the second half of training; shaded, what decides the status."""
    share = _quantity("share", "share of the training steps", scale={"domain": [0.5, 1]}, ticks=6)
    share["axis"]["format"] = "%"
    loss = _quantity("value", "loss (nats a token)", scale={"zero": False}, ticks=6)
    kinds = {"domain": ["short", "long"], "range": [[1, 0], [5, 3]]}
    return _of_arms(
        colours,
        data="curves",
        transform=[
            {"joinaggregate": [{"op": "max", "field": "step", "as": "end"}], "groupby": ["arm"]},
            {"calculate": "datum.step / datum.end", "as": "share"},
            {"filter": "datum.share >= 0.5"},
            {"fold": ["short", "long"], "as": ["kind", "value"]},
        ],
        layer=[
            {
                "data": {"values": [{"from": 1 - slope_share, "to": 1}]},
                "mark": {"type": "rect", "color": "var(--shade)"},
                "encoding": {"x": share | {"field": "from"}, "x2": {"field": "to"}},
            },
            {
                "mark": {"type": "line", "strokeWidth": 1.5},
                "encoding": {
                    "x": share,
                    "y": loss,
                    "color": _colour(colours),
                    "detail": {"field": "seed"},
                    "strokeDash": {"field": "kind", "scale": kinds, "legend": None},
                },
            },
        ],
    )


def differences(colours: Mapping[str, str], several_seeds: bool) -> Spec:
    """Point and interval of each arm's difference to the baseline; a tick for each seed.

    Rows of the table: arm, low, value, high, future, words, one an arm; of `seeds`: arm, value.
    A hollow point sees the future: its perplexity is not a language model's.
    """
    x = _quantity("value", "perplexity, arm − baseline", ticks=5)
    x["axis"] |= {"format": "+~r", "grid": True}
    row = {"field": "arm", "type": "nominal", "sort": None, "axis": None}
    colour = _colour(colours)
    shared = {"y": row, "color": colour, "tooltip": {"field": "words"}}
    ticks = [
        {
            "data": {"name": "seeds"},
            "transform": [_SHOWN],
            "mark": {"type": "tick", "thickness": 1.5, "size": 16},
            "encoding": {"x": x, "y": row, "color": colour},
        }
    ]
    words = {"type": "text", "align": "left", "dy": -19, "fontSize": 13, "color": "currentColor"}
    words |= {"stroke": "var(--page)", "strokeWidth": 4}  # a halo: the style paints it first
    chart = _of_arms(
        colours,
        data="differences",
        layer=[
            {
                "data": {"values": [{"zero": 0}]},
                "mark": {"type": "rule", "color": "var(--rule)", "strokeWidth": 1.5},
                "encoding": {"x": x | {"field": "zero"}},
            },
            {
                "mark": {"type": "rule", "strokeWidth": 3},
                "encoding": shared | {"x": x | {"field": "low"}, "x2": {"field": "high"}},
            },
            *(ticks if several_seeds else []),
            {
                "mark": {"type": "point", "size": 110, "strokeWidth": 2.5, "opacity": 1},
                "encoding": shared
                | {
                    "x": x,
                    "fill": colour
                    | {"condition": {"test": "datum.future", "value": "var(--page)"}},
                },
            },
            {
                "mark": words,
                "encoding": {"y": row, "x": {"value": 0}, "text": {"field": "words"}},
            },
        ],
    )
    return chart | {"height": 58 * len(colours)}


def sequence_scatter(colours: Mapping[str, str]) -> Spec:
    """The loss of each validation sequence, arm against baseline; on the line they are equal."""
    x = _quantity("baseline", "baseline's loss (nats a token)", scale={"zero": False}, ticks=6)
    y = _quantity("loss", "arm's loss (nats a token)", scale={"zero": False}, ticks=6)
    told = [
        {"field": "arm"},
        {"field": "sequence", "format": ","},
        {"field": "loss", "format": ".4f"},
        {"field": "baseline", "format": ".4f"},
    ]
    ends = [{"op": op, "field": "baseline", "as": op} for op in ("min", "max")]
    line = {"field": "min", "type": "quantitative"}
    return _of_arms(
        colours,
        data="sequences",
        layer=[
            {
                "mark": {"type": "circle", "size": 14, "opacity": 0.4},
                "encoding": {"x": x, "y": y, "color": _colour(colours), "tooltip": told},
            },
            {
                "transform": [{"aggregate": ends}],
                "mark": {"type": "rule", "color": "var(--rule)", "strokeDash": [4, 3]},
                "encoding": {"x": line, "y": line, "x2": {"field": "max"}, "y2": {"field": "max"}},
            },
        ],
    )


def sequence_differences(colours: Mapping[str, str]) -> Spec:
    """How often which difference: sequences by their loss, arm less baseline.

    Rows of the table: arm, value (the middle of a bin), count.
    """
    x = _quantity("value", "loss, arm − baseline (nats a token)", ticks=6)
    x["axis"]["format"] = "+~r"
    told = [{"field": "arm"}, {"field": "value", "format": "+.3f"}, {"field": "count"}]
    return _of_arms(
        colours,
        data="histogram",
        layer=[
            {
                "data": {"values": [{"zero": 0}]},
                "mark": {"type": "rule", "color": "var(--rule)", "strokeDash": [4, 3]},
                "encoding": {"x": {"field": "zero", "type": "quantitative"}},
            },
            {
                "mark": {
                    "type": "area",
                    "interpolate": "step",
                    "fillOpacity": 0.12,
                    "line": {"strokeWidth": 1.5},
                },
                "encoding": {
                    "x": x,
                    "y": _quantity("count", "sequences", ticks=5) | {"stack": None},
                    "color": _colour(colours),
                    "tooltip": told,
                },
            },
        ],
    )


def heatmap(signal: str, tokens: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Spec:
    """A signal by token (across) and layer (down), on the one absolute scale of that signal.

    Args:
        signal: its declared name.
        tokens: of the text, as they are shown.
        rows: position, layer, value.
    """
    declared = SIGNALS[signal]
    low, high = declared.scale
    labels = f"{json.dumps(list(tokens), ensure_ascii=False)}[datum.value]"
    across = {"labelExpr": labels, "labelAngle": -55, "labelOverlap": False, "labelLimit": 70}
    colours = {"domain": [low, declared.neutral, high], "range": list(SCAN_COLOURS)}
    colours |= {"interpolate": "rgb", "clamp": True}
    told = [
        {"field": "token"},
        {"field": "layer"},
        {"field": "value", "title": signal, "format": ".3f"},
    ]
    return {
        "data": {"values": [{**row, "token": tokens[row["position"]]} for row in rows]},
        "height": 20 * len({row["layer"] for row in rows}),
        "mark": {"type": "rect"},
        "encoding": {
            "x": {"field": "position", "type": "ordinal", "title": None, "axis": across},
            "y": {"field": "layer", "type": "ordinal", "title": "layer", "axis": {"minExtent": 12}},
            "color": {
                "field": "value",
                "type": "quantitative",
                "scale": colours,
                "legend": None,
            },
            "tooltip": told,
        },
    }


def layer_means(colours: Mapping[str, str], signal: str) -> Spec:
    """A signal's mean in each layer, ± its sd over tokens; the tick is the untrained networks'."""
    layer: Spec = {"field": "layer", "type": "ordinal", "title": "layer", "sort": None}
    layer["axis"] = {"labelAngle": 0}
    aside = {"field": "run", "type": "nominal", "sort": None}
    shared = {"x": layer, "xOffset": aside, "color": _colour(colours)}
    y = _quantity("mean", signal.replace("_", " "), scale={"zero": False}, ticks=5)
    told = [
        {"field": "run"},
        {"field": "layer"},
        *({"field": name, "format": ".4f"} for name in ("mean", "sd")),
        {"field": "null_mean", "title": "untrained", "format": ".4f"},
    ]
    ends = {"y": y | {"field": "low"}, "y2": {"field": "high"}}
    chart = _of_arms(
        colours,
        data="layers",
        transform=[
            {"filter": {"field": "signal", "equal": signal}},
            {"calculate": "datum.arm + '-' + datum.seed", "as": "run"},
            {"calculate": "datum.mean - datum.sd", "as": "low"},
            {"calculate": "datum.mean + datum.sd", "as": "high"},
        ],
        layer=[
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": shared | ends},
            {
                "mark": {"type": "point", "filled": True, "size": 55, "opacity": 1},
                "encoding": shared | {"y": y, "tooltip": told},
            },
            {
                "mark": {"type": "tick", "thickness": 2, "color": "var(--rule)"},
                "encoding": {"x": layer, "xOffset": aside, "y": y | {"field": "null_mean"}},
            },
        ],
    )
    return chart | {"height": 200}


def by_loss(colours: Mapping[str, str], signal: str) -> Spec:
    """A signal's mean in each tenth of the tokens, from the easiest to the hardest to predict."""
    x: Spec = {"field": "tenth", "type": "ordinal", "title": "tenth of the tokens, by loss"}
    x["axis"] = {"labelAngle": 0}
    y = _quantity("mean", signal.replace("_", " "), scale={"zero": False}, ticks=5)
    told = [
        {"field": "arm"},
        {"field": "tenth"},
        {"field": "loss", "format": ".3f"},
        {"field": "mean", "format": ".4f"},
    ]
    chart = _of_arms(
        colours,
        data="losses",
        transform=[{"filter": {"field": "signal", "equal": signal}}],
        layer=[
            {
                "mark": {"type": "line", "strokeWidth": 2, "point": {"size": 30}},
                "encoding": {"x": x, "y": y, "color": _colour(colours), "tooltip": told}
                | {"detail": {"field": "seed"}},
            }
        ],
    )
    return chart | {"height": 200}


def entropy_of_heads(colours: Mapping[str, str]) -> Spec:
    """Rank correlation of precision with each head's attention entropy, position held; 95 %."""
    head: Spec = {"field": "name", "type": "ordinal", "title": "layer.head", "sort": None}
    head["axis"] = {"labelAngle": 0, "labelOverlap": True}
    aside = {"field": "run", "type": "nominal", "sort": None}
    shared = {"x": head, "xOffset": aside, "color": _colour(colours)}
    y = _quantity("rho_given_position", "rank correlation", ticks=6)
    ends = {
        "y": y | {"field": "rho_given_position_low"},
        "y2": {"field": "rho_given_position_high"},
    }
    told = [
        {"field": "run"},
        {"field": "name", "title": "layer.head"},
        {"field": "rho_given_position", "title": "rho", "format": "+.3f"},
    ]
    return _of_arms(
        colours,
        data="heads",
        transform=[
            {"calculate": "datum.arm + '-' + datum.seed", "as": "run"},
            {"calculate": "datum.layer + '.' + datum.head", "as": "name"},
        ],
        layer=[
            {
                "data": {"values": [{}]},
                "mark": {"type": "rule", "color": "var(--rule)", "strokeDash": [4, 3]},
                "encoding": {"y": {"datum": 0}},
            },
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": shared | ends},
            {
                "mark": {"type": "point", "filled": True, "size": 45, "opacity": 1},
                "encoding": shared | {"y": y, "tooltip": told},
            },
        ],
    )


_SHOWN: Spec = {"filter": "indexof(shown, datum.arm) >= 0"}


def _of_arms(
    colours: Mapping[str, str], data: str, layer: list[Spec], transform: Sequence[Spec] = ()
) -> Spec:
    return {
        "params": [{"name": "shown", "value": list(colours)}],
        "data": {"name": data},
        "transform": [_SHOWN, *transform],
        "height": 300,
        "layer": layer,
    }


def _quantity(field: str, title: str, *, scale: Spec | None = None, ticks: int) -> Spec:
    axis: Spec = {"tickCount": ticks, "labelFlush": False, "labelOverlap": True}
    encoding = {"field": field, "type": "quantitative", "title": title, "axis": axis}
    return encoding | ({"scale": scale} if scale else {})


def _colour(colours: Mapping[str, str]) -> Spec:
    scale = {"domain": list(colours), "range": list(colours.values())}
    return {"field": "arm", "type": "nominal", "scale": scale, "legend": None}


def _hover(arms: Sequence[str], x: Spec, y: str) -> Spec:
    """A rule at the logged point next to the pointer, which tells every arm's figure there."""
    fields = [f"datum[{json.dumps(arm)}]" for arm in arms]
    told = [
        {"calculate": f"isValid({field}) ? format({field}, '.4f') : ''", "as": arm}
        for arm, field in zip(arms, fields, strict=True)
    ]
    near = {"type": "point", "fields": ["tokens"], "nearest": True, "on": "pointerover"}
    return {
        "transform": [{"pivot": "arm", "value": y, "groupby": ["tokens"], "op": "mean"}, *told],
        "params": [{"name": "near", "select": near | {"clear": "pointerout"}}],
        "mark": {"type": "rule", "color": "var(--rule)"},
        "encoding": {
            "x": x,
            "opacity": {
                "condition": {"param": "near", "empty": False, "value": 0.6},
                "value": 0,
            },
            "tooltip": [
                {"field": "tokens", "title": "tokens", "format": ","},
                # The empty format: without one, Vega-Lite looks for the field of a nearest mark on
                # the cell around it, which has none.
                *({"field": arm, "title": arm, "format": ""} for arm in arms),
            ],
        },
    }
