"use strict";
// The page's data is a JSON object; texts in it come from users and go into the page as text only.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const DARK = matchMedia("(prefers-color-scheme: dark)").matches;
const VIRIDIS = DARK // lighter at its dark end, or darker at its light one, to be seen on the page
  ? ["#b08cff", "#7fa7ff", "#35c5bd", "#7fe07f", "#fde725"] : ["#440154", "#3b528b", "#21918c", "#4fb04f", "#c9a800"];
const NAMED = DARK // Okabe and Ito's
  ? ["#56b4e9", "#f0813a", "#2fc495", "#e29cc4", "#e69f00", "#f0e442", "#c9a86a", "#a99be0"]
  : ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f6000", "#6a51a3"];
const DASHES = ["solid", "dash", "dot", "dashdot", "longdash"];
const SYMBOLS = ["circle", "diamond", "square", "triangle-up", "x", "cross", "star"];
const FILLS = ["", "/", ".", "x", "-"]; // of bars, where lines have dashes
const MOST_SHADES = 12; // curves
const MOST_NAMES = 6; // of lines in a small plot
const ALIKE = "The runs differ in nothing but their seed.";
const STATES = ["finished", "running", "interrupted", "pruned", "diverged", "failed"];
const LABELS = {
  "val/neg_elbo": "validation −ELBO", "test/neg_elbo": "test −ELBO", "test/iwae": "test IWAE bound",
  "val/relaxed_loss": "relaxed loss, validation", "train/loss": "training loss (relaxed)", "train/kl": "training KL",
  "train/reconstruction": "training reconstruction", "val/kl": "validation KL",
  "val/reconstruction": "validation reconstruction", "codes/perplexity": "code perplexity",
  "codes/active": "active latents", "codes/dead": "dead codes", "train/tau": "temperature τ",
  "train/lr": "learning rate", "train/grad_norm": "gradient norm",
};
// Plotly reads tags and templates in what it is told to write.
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll("%{", "% {");
const IN_NATS = /neg_elbo|iwae|loss|kl$|reconstruction/;
const titleOf = (metric) => escaped(LABELS[metric] || metric) + (IN_NATS.test(metric) ? " (nats per image)" : "");

// ---------------------------------------------------------------- names of groups in plots: their values alone, where all of it is too long

const MOST_LETTERS = 44, MOST_SHORT = 64;
const KEYS = data.groups.some((group) => group.label.length > MOST_LETTERS) ? data.keys.join(" · ") : "";
const nameOf = (group) => {
  const name = KEYS ? data.keys.map((key) => group.values[key]).join(" · ") : group.label;
  return escaped(name.length > MOST_SHORT ? name.slice(0, MOST_SHORT - 1) + "…" : name);
};
const legendOf = (more) => ({ ...more, title: { text: escaped(KEYS), font: { size: 12 }, side: "top" } });

// ---------------------------------------------------------------- colour: the value of the richest setting; stroke: the others'

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
  group.colour = !first ? NAMED[0] : ordered ? mix(VIRIDIS, place / (values.length - 1)) : NAMED[place % NAMED.length];
  const rest = others.map((key) => group.values[key]).join(" ");
  const rests = [...new Set(data.groups.map((g) => others.map((key) => g.values[key]).join(" ")))].sort();
  group.dash = DASHES[rests.indexOf(rest) % DASHES.length];
  group.fill = FILLS[rests.indexOf(rest) % FILLS.length];
  group.symbol = SYMBOLS[rests.indexOf(rest) % SYMBOLS.length];
}

// ---------------------------------------------------------------- filters, kept in the address

const filterKeys = data.keys.filter((key) => valuesOf(key).length <= 24);
const hidden = {};
function readAddress() {
  for (const key of [...filterKeys, "state"]) hidden[key] = new Set();
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) { // never throws, whatever the address
    const key = name.replace(/^hide\./, "");
    if (name.startsWith("hide.") && Object.hasOwn(hidden, key)) hidden[key].add(value);
  }
}
function writeAddress() {
  const parts = new URLSearchParams(Object.entries(hidden).flatMap(([key, set]) => [...set].map((v) => ["hide." + key, v])));
  history.replaceState(null, "", "#" + parts);
}
const isFiltered = () => Object.values(hidden).some((set) => set.size);
const visibleRun = (run) => !hidden.state.has(run.state);
const runsOf = (group) => group.runs.map((index) => data.runs[index]).filter(visibleRun);
const isChosen = (group) => filterKeys.every((key) => !hidden[key].has(group.values[key]));
const visibleGroups = () => data.groups.filter((group) => isChosen(group) && runsOf(group).length);
data.groups.forEach((group, index) => group.runs.forEach((run) => { data.runs[run].group = index; }));
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
  if (isFiltered()) {
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

function drawVerdict(order) {
  const [best, second] = order, metric = data.metric;
  if (!isFiltered()) { byId("verdict").textContent = data.verdict; return; }
  if (!best) { byId("verdict").textContent = "Nothing of what is shown has finished."; return; }
  if (!second) { byId("verdict").textContent = "Of what is shown only " + best.label + " has finished: " + withError(best.scores[metric]) + "."; return; }
  const p = pValue(best, second), by = Math.abs(best.scores[metric][1] - second.scores[metric][1]);
  byId("verdict").textContent = "Of what is shown, " + best.label + " beats " + second.label + " by " + number(by)
    + (IN_NATS.test(metric) ? " nats" : "") + " (" + metric + (p === null ? "): whether that is noise cannot be told."
      : ", Welch's p = " + p.toPrecision(2) + "): that " + (p > data.noise ? "may well be" : "is unlikely to be") + " noise.");
}

function pValue(group, other) {
  return group.p[data.groups.indexOf(other)] ?? other.p[data.groups.indexOf(group)] ?? null;
}

function drawRanking() {
  const table = byId("ranking"), metric = data.metric;
  table.replaceChildren();
  const groups = metric ? rankedGroups(metric) : [];
  byId("ranking-note").textContent = groups.length
    ? "Mean ± standard error over n seeds; one-hot codes, nats per image. Ranked by " + metric + "."
      + (data.unscored ? " Finished without it, and not ranked: " + data.unscored + "." : "") : "";
  if (!groups.length) { drawVerdict([]); table.append(element("caption", "No finished run to rank.", "empty")); return; }
  const better = (a, b) => (data.maximize ? -1 : 1) * (a.scores[metric][1] - b.scores[metric][1]);
  const order = [...groups].sort(better), best = order[0];
  drawVerdict(order);
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
  const p = pValue(group, best);
  if (p === null) return "";
  return p > data.noise ? "within noise of the best (p\u00a0=\u00a0" + p.toPrecision(2) + ")" : "";
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
  if (values.length < 3 || values.length !== valuesOf(key).length) return false;
  const spread = (list) => Math.max(...list) / Math.min(...list), next = values.slice(1); // values are sorted
  const ratios = next.map((v, i) => v / values[i]), differences = next.map((v, i) => v - values[i]);
  return values.at(-1) / values[0] >= 20 || (Math.min(...ratios) > 1.4 && spread(ratios) < spread(differences));
}

function drawAgainst() {
  const holder = byId("against"), metric = byId("final-metric").value;
  holder.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.purge(plot));
  holder.replaceChildren();
  const groups = rankedGroups(metric);
  if (!data.keys.length || !groups.length) { holder.append(element("p", data.keys.length ? "Nothing to show yet." : ALIKE, "empty")); return; }
  const plots = data.keys.map(() => element("div")); // all in place before the first is drawn, for their widths
  holder.append(...plots);
  for (const [place, key] of data.keys.entries()) {
    const plot = plots[place];
    const numeric = isNumeric(key), series = new Map();
    for (const group of groups) {
      const rest = data.keys.filter((other) => other !== key).map((other) => other + "=" + group.values[other]).join(" ");
      series.set(rest, [...(series.get(rest) || []), group]);
    }
    const traces = [], many = series.size > 12, named = series.size > 1 && series.size <= MOST_NAMES;
    const common = (members, what, otherwise) => members.every((g) => g[what] === members[0][what]) ? members[0][what] : otherwise;
    const x = (group) => numeric ? group.numbers[key] : escaped(group.values[key]);
    for (const [rest, members] of series) {
      members.sort((a, b) => numeric ? x(a) - x(b) : valuesOf(key).indexOf(a.values[key]) - valuesOf(key).indexOf(b.values[key]));
      const dots = members.flatMap((group) => runsOf(group).filter((run) => run.state === "finished" && metric in run.metrics)
        .map((run) => ({ x: x(group), y: run.metrics[metric], text: run.name, colour: group.colour, symbol: group.symbol })));
      traces.push({
        type: "scatter", mode: "markers", x: dots.map((d) => d.x), y: dots.map((d) => d.y), text: dots.map((d) => escaped(d.text)),
        hovertemplate: "%{y:.2f}<br>%{text}<extra></extra>", legendgroup: rest, showlegend: false,
        marker: { color: dots.map((d) => d.colour), symbol: dots.map((d) => d.symbol), size: 8, opacity: 0.6 },
      });
      if (many) continue;
      const colour = common(members, "colour", css("--soft"));
      traces.push({
        type: "scatter", mode: "lines+markers", name: escaped(rest || "mean"), legendgroup: rest, showlegend: named,
        x: members.map(x), y: members.map((group) => group.scores[metric][1]),
        line: { color: colour, width: 2, dash: common(members, "dash", "solid") }, marker: { size: 4, color: colour },
        hovertemplate: "%{y:.2f}<br>mean of " + escaped(rest || "all") + "<extra></extra>",
        error_y: { type: "data", array: members.map((group) => group.scores[metric][2] || 0), color: colour, thickness: 1.4, width: 4 },
      });
    }
    const ticks = numeric && valuesOf(key).length <= 12 ? { tickvals: valuesOf(key).map(Number), ticktext: valuesOf(key).map(escaped) } : {};
    Plotly.react(plot, traces, layout({
      xaxis: { title: { text: escaped(key) }, type: numeric ? (isLog(key) ? "log" : "linear") : "category", ...ticks },
      yaxis: { title: { text: titleOf(metric) } }, legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      margin: { l: 60, r: 16, t: 54, b: 46 }, height: 400 + (named ? 21 * Math.max(0, series.size - 2) : 0),
    }), CONFIG);
  }
}

function drawCurves() {
  const holder = byId("curves"), metric = byId("curve-metric").value, axis = byId("curve-axis").value;
  const lines = visibleGroups().flatMap((group) => STATES.filter((state) => !hidden.state.has(state) && group.curves[state]?.[metric])
    .map((state) => {
      const { x, mean, low, high, per_epoch } = group.curves[state][metric];
      const scaled = axis === "epoch" && per_epoch ? x.map((step) => step / per_epoch) : x;
      return { group, mean, low, high, x: scaled, name: nameOf(group) + (state === "finished" ? "" : " (" + state + ")"), whole: state === "finished" };
    }));
  if (!lines.length) { nothing(holder, "No curve to show yet."); return; }
  if (!holder.classList.contains("js-plotly-plot")) holder.replaceChildren();
  const shaded = lines.length <= MOST_SHADES;
  byId("shades").textContent = shaded ? "The shade spans the lowest to the highest seed."
    : "Of more than " + MOST_SHADES + " curves the means alone; with fewer, by the filters above, the span of the seeds is shaded.";
  const traces = lines.flatMap(({ group, mean, low, high, x, name, whole }) => {
    const line = { type: "scatter", mode: "lines", x, legendgroup: name, hoverinfo: "skip", showlegend: false };
    return [
      ...(!shaded ? [] : [
        { ...line, y: low, line: { width: 0 } },
        { ...line, y: high, line: { width: 0 }, fill: "tonexty", fillcolor: faded(group.colour, whole ? 0.16 : 0.08) },
      ]),
      { ...line, y: mean, name, showlegend: true, line: { color: group.colour, width: whole ? 2 : 1.2, dash: group.dash },
        opacity: whole ? 1 : 0.7, hoverinfo: "all", hovertemplate: "%{y:.4g}" },
    ];
  });
  // The first tenth of training would flatten all that comes after it.
  const whole = lines.filter((line) => line.whole), telling = whole.length ? whole : lines; // not the steps before a divergence
  const last = Math.max(...telling.map(({ x }) => x.at(-1)));
  const late = telling.filter(({ x }) => x.at(-1) > last / 2)
    .flatMap(({ x, low, high, mean }) => (shaded ? [...low, ...high] : mean).filter((v, i) => v !== null && x[i % x.length] > last / 10));
  const finite = late.length ? late : telling.flatMap(({ mean }) => mean.filter((v) => v !== null));
  const [least, most] = [Math.min(...finite), Math.max(...finite)], room = (most - least || Math.abs(most) || 1) * 0.06;
  const below = innerWidth < 800 || Math.max(...lines.map(({ name }) => name.length)) > 80;
  const height = below ? 480 + 21 * lines.length : Math.min(900, Math.max(480, 60 + 28 * lines.length));
  Plotly.react(holder, traces, layout({
    height, hovermode: lines.length > 12 ? "closest" : "x unified", xaxis: { title: { text: axis } },
    yaxis: { title: { text: titleOf(metric) }, range: [least - room, most + room] },
    legend: legendOf(below ? { orientation: "h", y: -0.2, yanchor: "top", x: 0 } : { y: 1 }),
  }), CONFIG);
}

function drawParallel() {
  const holder = byId("parallel"), metric = byId("final-metric").value;
  const rows = rankedGroups(metric).flatMap((group) => runsOf(group).filter((run) => metric in run.metrics).map((run) => [group, run]));
  if (rows.length < 2 || !data.keys.length) { nothing(holder, data.keys.length ? "Two finished runs that differ are needed." : ALIKE); return; }
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
  const spread = Math.max(...scores) - Math.min(...scores); // of which a tick is about a tenth
  const decimals = Math.min(6, Math.max(0, Math.ceil(1 - Math.log10(spread || 1))));
  dimensions.push({ label: LABELS[metric] || metric, values: scores, tickformat: "." + decimals + "f" });
  const seeds = [...new Set(rows.map(([, run]) => run.seed))].sort((a, b) => a - b || 0);
  if (seeds.length > 1) {
    const dimension = { label: "seed", values: rows.map(([, run]) => seeds.indexOf(run.seed)), tickvals: seeds.map((_, i) => i), ticktext: seeds.map(String) };
    dimensions.splice(dimensions.length - 1, 0, dimension);
  }
  const letters = Math.max(0, ...(dimensions[0].ticktext || []).map((text) => text.length)); // stand left of their axis
  Plotly.newPlot(holder, [{
    type: "parcoords", dimensions, labelfont: { size: 13 }, rangefont: { size: 1, color: "rgba(0,0,0,0)" },
    tickfont: { size: 12, color: css("--front") }, unselected: { line: { opacity: 0.06 } },
    line: { color: scores, colorscale: VIRIDIS.map((colour, i) => [i / (VIRIDIS.length - 1), colour]) },
  }], layout({ margin: { l: Math.min(300, Math.max(70, 12 + 7 * letters)), r: 70, t: 50, b: 26 }, height: 420 }), { ...CONFIG, displayModeBar: false });
}

function drawPictures() {
  const holder = byId("pictures"), kind = byId("picture-kind").value;
  byId("pictures-section").hidden = !kind;
  holder.replaceChildren();
  for (const group of visibleGroups().filter((candidate) => candidate.pictures[kind] && !hidden.state.has("finished"))) {
    const figure = element("figure"), image = element("img"), score = group.scores[data.metric];
    const caption = element("figcaption", group.label + (score ? " · " + withError(score) : ""));
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
  const sorted = visibleGroups().filter((group) => group.kl.length && !hidden.state.has("finished"));
  const plots = [...bars, ...(sorted.length ? ["kl"] : [])].map(() => element("div"));
  holder.append(...plots);
  holder.classList.toggle("rows", Boolean(KEYS));
  for (const [place, metric] of bars.entries()) {
    const groups = rankedGroups(metric), plot = plots[place], means = groups.map((group) => group.scores[metric][1]);
    const names = groups.map((group) => nameOf(group) + "\u00a0"), places = groups.map((_, index) => index);
    Plotly.react(plot, [{
      type: "bar", orientation: "h", y: places, x: means, text: groups.map((group) => escaped(group.label)), textposition: "none",
      error_x: { type: "data", array: groups.map((group) => group.scores[metric][2] || 0), thickness: 1.2, color: css("--soft") },
      marker: { color: groups.map((group) => group.colour), pattern: { shape: groups.map((group) => group.fill), fillmode: "replace", size: 7 } }, hovertemplate: "%{text}: %{x:.2f}<extra></extra>",
    }], layout({ xaxis: { title: { text: titleOf(metric) }, ...(means.some((mean) => mean) ? {} : { range: [0, 1] }) },
      yaxis: { autorange: "reversed", automargin: true, tickvals: places, ticktext: names, title: { text: escaped(KEYS) } },
      height: Math.max(240, 110 + 24 * groups.length), margin: { l: 20, r: 16, t: 34, b: 46 } }), CONFIG);
  }
  if (sorted.length) {
    Plotly.react(plots.at(-1), sorted.map((group) => ({
      type: "scatter", mode: "lines", x: group.kl.map((_, index) => index + 1), y: group.kl, name: nameOf(group),
      line: { color: group.colour, dash: group.dash, width: 2 }, hovertemplate: "%{y:.2f}",
    })), layout({ xaxis: { title: { text: "latents, the most used first" }, ...(Math.max(...sorted.map((g) => g.kl.length)) <= 12 ? { dtick: 1 } : {}) }, yaxis: { title: { text: "KL of a latent (nats)" }, rangemode: "tozero" },
      showlegend: sorted.length <= 16, legend: legendOf({}), height: Math.max(320, 90 + 24 * sorted.length) }), CONFIG);
  }
  if (!holder.children.length) holder.append(element("p", "Nothing to show yet.", "empty"));
}

function drawFailures() {
  const table = byId("failures"), unfinished = data.runs.filter((run) => run.state !== "finished" && visibleRun(run));
  const rows = unfinished.filter((run) => run.state !== "waiting" && (run.group === undefined || isChosen(data.groups[run.group])));
  rows.sort((a, b) => STATES.indexOf(b.state) - STATES.indexOf(a.state)); // the worst first
  const waiting = unfinished.filter((run) => run.state === "waiting").length;
  byId("failures-section").hidden = !rows.length && !waiting;
  byId("waiting").textContent = waiting ? waiting + (waiting === 1 ? " job waits." : " jobs wait.") : "";
  table.replaceChildren();
  if (!rows.length) return;
  const head = element("tr");
  for (const title of ["run", "state", "reason", "log"]) head.append(element("th", title, "text"));
  table.append(head);
  for (const run of rows) {
    const row = element("tr");
    row.append(element("td", run.name, "text"), element("td", run.state, "text"), element("td", run.error || "", "reason"),
      element("td", run.folder + "/run.log", "text"));
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
byId("warning").hidden = !data.warning;
byId("warning").textContent = data.warning || "";
fill(byId("final-metric"), data.metrics, [data.metric, "val/neg_elbo", "test/neg_elbo"].filter(Boolean));
fill(byId("curve-metric"), [...new Set(data.groups.flatMap((group) => Object.values(group.curves).flatMap(Object.keys)))].sort(), ["val/neg_elbo", "train/loss"]);
fill(byId("picture-kind"), [...new Set(data.groups.flatMap((group) => Object.keys(group.pictures)))], ["reconstructions"]);
byId("curve-axis").onchange = draw;
readAddress();
draw();
addEventListener("hashchange", () => { readAddress(); draw(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => location.reload());
