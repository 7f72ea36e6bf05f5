"""Vega, from the pinned package: what pages inline, and charts as pictures without a browser.

`python -m ncn plots-page` writes the page of `dvc plots show` anew, which is kept in git so that a
fresh clone has it.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import vl_convert

VEGA_LITE = "6.4"
PLOTS_PAGE = Path(".dvc/plots/page.html")  # named in .dvc/config as plots.html_template

# DVC's own page loads Vega from the web, and so would the editor in vega-embed's menu: it is left
# out. DVC writes specifications of Vega-Lite 5, which 6 draws but warns of, one for each file of a
# directory, and an empty one for a file that is not there: charts whose template says one_chart
# become one, and what is empty is left out.
PLOTS_PAGE_TEXT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
{{refresh_tag}}
<title>DVC plots</title>
<style>
body {{ margin: 1.5rem; color: #1c1f24; background: #fff;
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Arial, sans-serif; }}
body > .vega-embed {{ display: block; margin-bottom: 2rem; max-width: 100%; overflow-x: auto; }}
body > div > div:not(:only-of-type) > img {{ max-width: 46vw; }} /* two revisions side by side */
</style>
<script>{bundle}
{{
  const draw = window.vegaEmbed;
  const actions = {{export: true, source: false, compiled: false, editor: false}};
  const charts = new Map();
  window.vegaEmbed = (element, {{$schema, ...spec}}) => {{
    const same = spec.usermeta?.one_chart ? JSON.stringify({{...spec, data: null}}) : element;
    if (charts.has(same)) charts.get(same).spec.data.values.push(...spec.data.values);
    else if (spec.data) charts.set(same, {{element, spec}});
  }};
  addEventListener("DOMContentLoaded", () => {{
    for (const {{element, spec}} of charts.values()) {{
      if (spec.usermeta?.one_chart) // colours go by order of appearance: as in the report
        spec.data.values.sort((a, b) => (a.arm > b.arm) - (a.arm < b.arm));
      draw(element, spec, {{mode: "vega-lite", renderer: "svg", actions}});
    }}
  }});
}}
</script>
</head>
<body>
{{plot_divs}}
</body>
</html>
"""


@cache
def bundle() -> str:
    """JavaScript that sets window.vegaEmbed, for a <script> element; asks the network for nothing.

    In a function of its own: the bundle's many short names must not become the page's.
    """
    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    return f"(() => {{{script}}})();"


def to_svg(spec: Mapping[str, Any]) -> str:
    """The picture of a Vega-Lite specification as an <svg> element."""
    svg: str = vl_convert.vegalite_to_svg(dict(spec), vl_version=VEGA_LITE)
    return svg


def plots_page() -> str:
    """The page into which DVC writes its plots, {plot_divs}, with Vega inlined."""
    return PLOTS_PAGE_TEXT.format(bundle=bundle())
