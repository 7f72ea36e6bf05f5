// Brings the pictures of the page to life: each becomes the chart that it shows when it comes near
// the screen, and the switches take arms out of all of them at once. Where no script runs, the
// pictures stay.
(() => {
  const {config, tables, charts} = JSON.parse(document.getElementById("live").textContent);
  const rows = {};
  const views = [];
  const off = new Set();

  // Tables come by column, which names each column once.
  const table = (name) => rows[name] ??= (Object.values(tables[name])[0] ?? []).map((_, place) =>
    Object.fromEntries(Object.entries(tables[name]).map(([key, column]) => [key, column[place]])));

  const show = ({view, arms}) =>
    arms && view.signal("shown", arms.filter((arm) => !off.has(arm))).runAsync();

  const draw = async (element) => {
    const {spec, tables: names} = charts[element.dataset.chart];
    const datasets = Object.fromEntries(names.map((name) => [name, table(name)]));
    const fitted = {width: "container", autosize: {type: "fit-x", contains: "padding"}};
    element.style.minHeight = `${element.offsetHeight}px`; // or the page would jump
    const {view} = await vegaEmbed(element, {...spec, ...fitted, datasets}, {
      mode: "vega-lite", renderer: "svg", actions: false, config, tooltip: {theme: "page"},
      ast: true, // expressions are interpreted: the page's policy lets nothing be made into code
    });
    element.style.minHeight = "";
    const arms = spec.params?.find(({name}) => name === "shown")?.value;
    views.push({view, arms});
    if (off.size) await show(views.at(-1));
    element.dataset.live = "";
  };

  const near = new IntersectionObserver((entries) => {
    for (const {isIntersecting, target} of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      draw(target);
    }
  }, {rootMargin: "600px"});
  for (const element of document.querySelectorAll("[data-chart]")) near.observe(element);

  for (const switches of document.querySelectorAll(".switches")) switches.hidden = false;
  document.addEventListener("click", ({target}) => {
    const arm = target.closest("[data-arm]")?.dataset.arm;
    if (arm === undefined) return;
    if (!off.delete(arm)) off.add(arm);
    for (const button of document.querySelectorAll("[data-arm]"))
      button.setAttribute("aria-pressed", String(!off.has(button.dataset.arm)));
    views.forEach(show);
  });
})();
