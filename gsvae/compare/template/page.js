"use strict";
// The page's data is a JSON object; texts in it come from users and go into the page as text only.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const VIRIDIS = ["#440154", "#3b528b", "#21918c", "#5ec962", "#d8c21a"]; // the last darker than viridis', for white
const NAMED = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000", "#6a51a3"]; // Okabe and Ito
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x"];
const LABELS = {
  "val/neg_elbo": "validation −ELBO", "test/neg_elbo": "test −ELBO", "test/iwae": "test IWAE bound",
  "val/relaxed_loss": "relaxed loss, validation", "train/loss": "training loss (relaxed)", "train/kl": "training KL",
  "train/reconstruction": "training reconstruction", "val/kl": "validation KL",
  "val/reconstruction": "validation reconstruction", "codes/perplexity": "code perplexity",
  "codes/active": "active latents", "codes/dead": "dead codes", "train/tau": "temperature τ",
  "train/lr": "learning rate", "train/grad_norm": "gradient norm",
};
const IN_NATS = /neg_elbo|iwae|loss|kl$|reconstruction/;
const titleOf = (metric) => (LABELS[metric] || metric) + (IN_NATS.test(metric) ? " (nats per image)" : "");

// ---------------------------------------------------------------- colours: one per value of the richest setting

const valuesOf = (key) => {
  const found = new Map();
  for (const group of data.groups) found.set(group.values[key], group.numbers[key]);
  return [...found.keys()].sort((a, b) => {
    const [x, y] = [found.get(a), found.get(b)];
    return x !== null && y !== null ? x - y : x !== null ? -1 : y !== null ? 1 : a < b ? -1 : 1;
  });
};
const isNumeric = (key) => data.groups.every((group) => group.numbers[key] !== null);
const keysByRichness = [...data.keys].sort((a, b) => valuesOf(b).length - valuesOf(a).length);

function mix(colours, at) {
  const place = at * (colours.length - 1), low = Math.min(Math.floor(place), colours.length - 2), part = place - low;
  const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  const [a, b] = [rgb(colours[low]), rgb(colours[low + 1])];
  return "rgb(" + a.map((v, i) => Math.round(v + (b[i] - v) * part)).join(",") + ")";
}

for (const group of data.groups) {
  const [first, ...others] = keysByRichness;
  const values = first ? valuesOf(first) : [];
  const place = values.indexOf(group.values[first]);
  const ordered = first && isNumeric(first) && values.length > 2;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const scale = dark ? ["#b08cff", "#7fa7ff", "#35c5bd", "#7fe07f", "#fde725"] : VIRIDIS;
  group.colour = !first ? NAMED[0] : ordered ? mix(scale, place / (values.length - 1)) : NAMED[place % NAMED.length];
  const rest = others.map((key) => group.values[key]).join(" ");
  const rests = [...new Set(data.groups.map((g) => others.map((key) => g.values[key]).join(" ")))].sort();
  group.dash = DASHES[rests.indexOf(rest) % DASHES.length];
  group.symbol = SYMBOLS[rests.indexOf(rest) % SYMBOLS.length];
}

// ---------------------------------------------------------------- filters, kept in the address

const filterKeys = data.keys.filter((key) => valuesOf(key).length <= 24);
const hidden = {};
function readAddress() {
  for (const key of [...filterKeys, "state"]) hidden[key] = new Set();
  for (const part of decodeURIComponent(location.hash.slice(1)).split("&")) {
    const [key, list] = [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)];
    if (key in hidden && list) hidden[key] = new Set(list.split("|"));
  }
}
function writeAddress() {
  const parts = Object.entries(hidden).filter(([, set]) => set.size).map(([key, set]) => key + "=" + [...set].join("|"));
  history.replaceState(null, "", "#" + encodeURIComponent(parts.join("&")));
}
const visibleRun = (run) => !hidden.state.has(run.state);
const runsOf = (group) => group.runs.map((index) => data.runs[index]).filter(visibleRun);
const visibleGroups = () => data.groups.filter(
  (group) => filterKeys.every((key) => !hidden[key].has(group.values[key])) && runsOf(group).length);
const rankedGroups = (metric) => visibleGroups().filter((group) => group.scores[metric] && !hidden.state.has("finished"));

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function drawFilters() {
  const nav = byId("filters");
  nav.replaceChildren();
  const choices = [...filterKeys.map((key) => [key, valuesOf(key)]), ["state", Object.keys(data.states)]];
  for (const [key, values] of choices) {
    if (values.length < 2) continue;
    const set = element("fieldset");
    set.append(element("legend", key));
    for (const value of values) {
      const label = element("label"), box = element("input");
      box.type = "checkbox";
      box.checked = !hidden[key].has(value);
      box.onchange = () => { hidden[key][box.checked ? "delete" : "add"](value); writeAddress(); draw(); };
      label.append(box, " " + value);
      set.append(label);
    }
    nav.append(set);
  }
  if (Object.values(hidden).some((set) => set.size)) {
    const button = element("button", "show all");
    button.onclick = () => { Object.values(hidden).forEach((set) => set.clear()); writeAddress(); draw(); };
    nav.append(button);
  }
  nav.hidden = !nav.children.length;
}

// ---------------------------------------------------------------- ranking

const number = (value) => value.toFixed(2);
const withError = (score) => !score ? "–" : number(score[1]) + (score[2] === null ? "" : " ± " + number(score[2]));
let sorting = { by: null, up: false };

function drawRanking() {
  const table = byId("ranking"), metric = data.metric;
  table.replaceChildren();
  const groups = metric ? rankedGroups(metric) : [];
  byId("ranking-note").textContent = groups.length
    ? "Mean ± standard error over n seeds; one-hot codes, nats per image. Ranked by " + metric + "." : "";
  if (!groups.length) { table.append(element("caption", "No finished run to rank.", "empty")); return; }
  const better = (a, b) => (data.maximize ? -1 : 1) * (a.scores[metric][1] - b.scores[metric][1]);
  const order = [...groups].sort(better), best = order[0];
  const shown = [...new Set([metric, "val/neg_elbo", "test/neg_elbo", "test/iwae", "codes/perplexity", "codes/active"])]
    .filter((name) => groups.some((group) => group.scores[name]));
  const columns = [
    ...data.keys.map((key) => [key, (g) => g.numbers[key] ?? g.values[key], (g) => g.values[key], "text"]),
    ["n", (g) => g.scores[metric][0], (g) => String(g.scores[metric][0])],
    ...shown.map((name) => [LABELS[name] || name, (g) => g.scores[name]?.[1] ?? Infinity, (g) => withError(g.scores[name])]),
  ];
  const head = element("tr");
  columns.forEach(([title, , , kind], index) => {
    const cell = element("th", title, "sortable " + (kind || ""));
    if (sorting.by === index) cell.classList.add("sorted", sorting.up ? "up" : "down");
    cell.onclick = () => { sorting = { by: index, up: sorting.by === index ? !sorting.up : true }; drawRanking(); };
    head.append(cell);
  });
  head.append(element("th", ""));
  table.append(head);
  const rows = sorting.by === null ? order : [...groups].sort((a, b) => {
    const [x, y] = [columns[sorting.by][1](a), columns[sorting.by][1](b)];
    return (sorting.up ? 1 : -1) * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y)));
  });
  for (const group of rows) {
    const row = element("tr", null, group === best ? "best" : "");
    columns.forEach(([, , text, kind], index) => {
      const cell = element("td", text(group), kind || "");
      if (index === 0) {
        const swatch = element("span", null, "swatch");
        swatch.style.borderTopColor = group.colour;
        swatch.style.borderTopStyle = group.dash === "solid" ? "solid" : group.dash === "dot" ? "dotted" : "dashed";
        cell.prepend(swatch);
      }
      row.append(cell);
    });
    row.append(element("td", mark(group, best), "mark"));
    table.append(row);
  }
}

function mark(group, best) {
  if (group === best) return "best";
  const p = group.p[data.groups.indexOf(best)];
  if (p === null || p === undefined) return "";
  return p > 0.05 ? "within noise of the best (p = " + p.toPrecision(2) + ")" : "";
}

// ---------------------------------------------------------------- plots

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const layout = (more) => {
  const axis = { gridcolor: css("--line"), zerolinecolor: css("--line"), automargin: true };
  const { xaxis, yaxis, ...rest } = more;
  return {
    modebar: { bgcolor: "rgba(0,0,0,0)", color: css("--line"), activecolor: css("--mark") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", margin: { l: 60, r: 16, t: 34, b: 46 },
    font: { family: "system-ui, sans-serif", size: 12.5, color: css("--front") }, hoverlabel: { namelength: -1 },
    xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, height: 400, ...rest,
  };
};
const CONFIG = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["lasso2d", "select2d"] };
const faded = (colour, part) => colour.startsWith("rgb(")
  ? colour.replace("rgb(", "rgba(").replace(")", "," + part + ")")
  : colour + Math.round(part * 255).toString(16).padStart(2, "0");

function fill(select, names, preferred) {
  select.replaceChildren(...names.map((name) => { const o = element("option", LABELS[name] || name); o.value = name; return o; }));
  const chosen = preferred.find((name) => names.includes(name));
  if (chosen) select.value = chosen;
  select.onchange = draw;
}

function nothing(holder, words) {
  Plotly.purge(holder);
  holder.replaceChildren(element("p", words, "empty"));
}

function isLog(key) {
  const values = valuesOf(key).map(Number).filter((v) => v > 0);
  return values.length > 2 && values.length === valuesOf(key).length && Math.max(...values) / Math.min(...values) >= 10;
}

function drawAgainst() {
  const holder = byId("against"), metric = byId("final-metric").value;
  holder.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.purge(plot));
  holder.replaceChildren();
  const groups = rankedGroups(metric);
  if (!data.keys.length || !groups.length) { holder.append(element("p", "Nothing to show yet.", "empty")); return; }
  const plots = data.keys.map(() => element("div")); // all in place before the first is drawn, for their widths
  holder.append(...plots);
  for (const [place, key] of data.keys.entries()) {
    const plot = plots[place];
    const numeric = isNumeric(key), series = new Map();
    for (const group of groups) {
      const rest = data.keys.filter((other) => other !== key).map((other) => other + "=" + group.values[other]).join(" ");
      series.set(rest, [...(series.get(rest) || []), group]);
    }
    const traces = [];
    const many = series.size > 12;
    [...series.entries()].forEach(([rest, members], index) => {
      members.sort((a, b) => numeric ? a.numbers[key] - b.numbers[key] : valuesOf(key).indexOf(a.values[key]) - valuesOf(key).indexOf(b.values[key]));
      const x = (group) => numeric ? group.numbers[key] : group.values[key];
      const otherKey = data.keys.find((other) => other !== key);
      const ordered = otherKey && data.keys.length === 2 && isNumeric(otherKey) && valuesOf(otherKey).length > 2;
      const colour = many ? members[0].colour : ordered ? members[0].colour : NAMED[index % NAMED.length];
      const dots = members.flatMap((group) => runsOf(group).filter((run) => metric in run.metrics)
        .map((run) => [x(group), run.metrics[metric], run.name]));
      traces.push({
        type: "scatter", mode: "markers", x: dots.map((d) => d[0]), y: dots.map((d) => d[1]), text: dots.map((d) => d[2]),
        hovertemplate: "%{text}<br>%{y:.2f}<extra></extra>", legendgroup: rest, showlegend: false,
        marker: { color: colour, size: 7, opacity: 0.5, symbol: SYMBOLS[(many ? 0 : index) % SYMBOLS.length] },
      });
      if (many) return;
      traces.push({
        type: "scatter", mode: "lines+markers", name: rest || "mean", legendgroup: rest, showlegend: series.size > 1,
        x: members.map(x), y: members.map((group) => group.scores[metric][1]), line: { color: colour, width: 2 },
        marker: { size: 4 }, hoverinfo: "skip",
        error_y: { type: "data", array: members.map((group) => group.scores[metric][2] || 0), color: colour, thickness: 1.4, width: 4 },
      });
    });
    const ticks = numeric && valuesOf(key).length <= 12 ? { tickvals: valuesOf(key).map(Number), ticktext: valuesOf(key) } : {};
    Plotly.react(plot, traces, layout({
      xaxis: { title: { text: key }, type: numeric ? (isLog(key) ? "log" : "linear") : "category", ...ticks },
      yaxis: { title: { text: titleOf(metric) } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      margin: { l: 60, r: 16, t: 54, b: 46 },
    }), CONFIG);
  }
}

function drawCurves() {
  const holder = byId("curves"), metric = byId("curve-metric").value;
  const groups = visibleGroups().filter((group) => group.curves[metric]);
  if (!groups.length) { nothing(holder, "No curve to show yet."); return; }
  if (!holder.classList.contains("js-plotly-plot")) holder.replaceChildren();
  const traces = groups.flatMap((group) => {
    const { x, mean, low, high } = group.curves[metric];
    const line = { type: "scatter", mode: "lines", x, legendgroup: group.label, hoverinfo: "skip", showlegend: false };
    return [
      { ...line, y: low, line: { width: 0 } },
      { ...line, y: high, line: { width: 0 }, fill: "tonexty", fillcolor: faded(group.colour, 0.16) },
      { ...line, y: mean, name: group.label, showlegend: true, line: { color: group.colour, width: 2, dash: group.dash },
        hoverinfo: "all", hovertemplate: "%{y:.4g}" },
    ];
  });
  // The first tenth of training would flatten all that comes after it.
  const last = Math.max(...groups.map((group) => group.curves[metric].x.at(-1)));
  const long = groups.filter((group) => group.curves[metric].x.at(-1) > last / 2);
  const late = long.flatMap(({ curves }) => curves[metric].mean.filter((v, i) => v !== null && curves[metric].x[i] > last / 10));
  const finite = late.length ? late : groups.flatMap(({ curves }) => curves[metric].mean.filter((v) => v !== null));
  const [low, high] = [Math.min(...finite), Math.max(...finite)], room = (high - low || Math.abs(high) || 1) * 0.06;
  Plotly.react(holder, traces, layout({
    height: 480, hovermode: "x unified", xaxis: { title: { text: "step" } },
    yaxis: { title: { text: titleOf(metric) }, range: [low - room, high + room] },
    legend: { orientation: innerWidth < 800 ? "h" : "v", y: innerWidth < 800 ? -0.2 : 1 },
  }), CONFIG);
}

function drawParallel() {
  const holder = byId("parallel"), metric = byId("final-metric").value;
  const rows = rankedGroups(metric).flatMap((group) => runsOf(group).filter((run) => metric in run.metrics).map((run) => [group, run]));
  if (rows.length < 2 || !data.keys.length) { nothing(holder, "Two finished runs that differ are needed."); return; }
  holder.replaceChildren();
  Plotly.purge(holder);
  const dimensions = data.keys.map((key) => {
    const values = valuesOf(key);
    if (isNumeric(key) && values.length > 12) {
      const log = isLog(key), at = (group) => log ? Math.log10(group.numbers[key]) : group.numbers[key];
      return { label: log ? "log10 " + key : key, values: rows.map(([group]) => at(group)) };
    }
    return { label: key, values: rows.map(([group]) => values.indexOf(group.values[key])), tickvals: values.map((_, i) => i), ticktext: values };
  });
  const scores = rows.map(([, run]) => run.metrics[metric]);
  dimensions.push({ label: LABELS[metric] || metric, values: scores });
  const seeds = [...new Set(rows.map(([, run]) => run.seed))].sort((a, b) => a - b);
  if (seeds.length > 1) {
    const dimension = { label: "seed", values: rows.map(([, run]) => seeds.indexOf(run.seed)), tickvals: seeds.map((_, i) => i), ticktext: seeds.map(String) };
    dimensions.splice(dimensions.length - 1, 0, dimension);
  }
  Plotly.newPlot(holder, [{
    type: "parcoords", dimensions, labelfont: { size: 13 }, tickfont: { size: 12 }, rangefont: { size: 1, color: "rgba(0,0,0,0)" },
    line: { color: scores, colorscale: "Viridis", reversescale: data.maximize, showscale: true,
      colorbar: { title: { text: LABELS[metric] || metric, side: "right" }, thickness: 12 } },
  }], layout({ margin: { l: 70, r: 40, t: 50, b: 26 }, height: 420 }), CONFIG);
}

function drawPictures() {
  const holder = byId("pictures"), kind = byId("picture-kind").value;
  holder.replaceChildren();
  for (const group of visibleGroups().filter((candidate) => candidate.pictures[kind])) {
    const figure = element("figure"), image = element("img"), caption = element("figcaption", group.label);
    image.src = group.pictures[kind];
    image.alt = kind + " of " + group.pictured;
    image.loading = "lazy";
    caption.title = group.pictured;
    figure.append(image, caption);
    holder.append(figure);
  }
  if (!holder.children.length) holder.append(element("p", "No pictures yet.", "empty"));
}

function drawUsage() {
  const holder = byId("usage");
  holder.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.purge(plot));
  holder.replaceChildren();
  const bars = ["codes/perplexity", "codes/active", "codes/dead"].filter((metric) => {
    const groups = rankedGroups(metric);
    return groups.length && (metric !== "codes/dead" || groups.some((group) => group.scores[metric][1] > 0));
  });
  const sorted = visibleGroups().filter((group) => group.kl.length);
  const plots = [...bars, ...(sorted.length ? ["kl"] : [])].map(() => element("div"));
  holder.append(...plots);
  for (const [place, metric] of bars.entries()) {
    const groups = rankedGroups(metric), plot = plots[place];
    Plotly.react(plot, [{
      type: "bar", orientation: "h", y: groups.map((group) => group.label), x: groups.map((group) => group.scores[metric][1]),
      error_x: { type: "data", array: groups.map((group) => group.scores[metric][2] || 0), thickness: 1.2, color: css("--soft") },
      marker: { color: groups.map((group) => group.colour) }, hovertemplate: "%{y}: %{x:.2f}<extra></extra>",
    }], layout({ xaxis: { title: { text: titleOf(metric) } }, yaxis: { autorange: "reversed", automargin: true },
      height: Math.max(240, 110 + 24 * groups.length), margin: { l: 20, r: 16, t: 34, b: 46 } }), CONFIG);
  }
  if (sorted.length) {
    Plotly.react(plots.at(-1), sorted.map((group) => ({
      type: "scatter", mode: "lines", x: group.kl.map((_, index) => index + 1), y: group.kl, name: group.label,
      line: { color: group.colour, dash: group.dash, width: 2 }, hovertemplate: "%{y:.2f}",
    })), layout({ xaxis: { title: { text: "latents, the most used first" } }, yaxis: { title: { text: "KL of a latent (nats)" }, rangemode: "tozero" },
      showlegend: sorted.length <= 16, height: Math.max(320, 90 + 24 * sorted.length) }), CONFIG);
  }
  if (!holder.children.length) holder.append(element("p", "Nothing to show yet.", "empty"));
}

function drawFailures() {
  const table = byId("failures"), rows = data.runs.filter((run) => run.state !== "finished" && visibleRun(run));
  byId("failures-section").hidden = !rows.length;
  table.replaceChildren();
  const head = element("tr");
  for (const title of ["run", "state", "reason", "log"]) head.append(element("th", title, "text"));
  table.append(head);
  for (const run of rows) {
    const row = element("tr");
    row.append(element("td", run.name, "text"), element("td", run.state, "text"), element("td", run.error || "", "reason"),
      element("td", run.state === "waiting" ? "" : run.folder + "/run.log", "text"));
    table.append(row);
  }
}

// ---------------------------------------------------------------- all of it

function draw() {
  drawFilters(); drawRanking(); drawAgainst(); drawCurves(); drawParallel(); drawPictures(); drawUsage(); drawFailures();
}

document.title = data.name + " – gsvae";
byId("name").textContent = data.name;
byId("about").textContent = [
  data.runs.length + (data.runs.length === 1 ? " run: " : " runs: ") + Object.entries(data.states).map(([s, n]) => n + " " + s).join(", "),
  data.protocols.length ? "images: " + data.protocols.join(", ") : null, "updated " + data.updated,
].filter(Boolean).join(" · ");
byId("verdict").textContent = data.verdict;
byId("warning").hidden = !data.warning;
byId("warning").textContent = data.warning || "";
fill(byId("final-metric"), data.metrics, [data.metric, "val/neg_elbo", "test/neg_elbo"].filter(Boolean));
fill(byId("curve-metric"), [...new Set(data.groups.flatMap((group) => Object.keys(group.curves)))].sort(), ["val/neg_elbo", "train/loss"]);
fill(byId("picture-kind"), [...new Set(data.groups.flatMap((group) => Object.keys(group.pictures)))], ["reconstructions"]);
readAddress();
draw();
addEventListener("hashchange", () => { readAddress(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
