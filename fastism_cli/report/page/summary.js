// The run, the quality checks, and how the deltas of a target are distributed.

function showSummary() {
  document.querySelector(".file").textContent = data.title;
  for (const [name, value] of data.summary) byId("summary").append(element("div", {}, element("dt", {}, name), element("dd", {}, value)));
  byId("command").textContent = data.command;
  for (const [level, text] of data.checks) {
    const word = { ok: "ok", look: "look", note: "note" }[level];
    byId("checks").append(element("li", { class: level }, element("b", {}, word), ` ${text}`));
  }
  data.tracks.forEach((track, i) => byId("track").append(element("option", { value: i }, track.label)));
}

function svg(tag, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Counts of deltas in equal steps of log10: above the line those that raise the prediction, below those that lower it. */
function showSpread() {
  const spread = data.tracks[state.track].spread, chart = byId("spread");
  chart.replaceChildren();
  byId("spread-caption").textContent = spread.text;
  const left = 84, right = 694, middle = 102, height = 76, n = spread.up.length;
  if (!n) return;
  const most = Math.max(...spread.up, ...spread.down), step = (right - left) / n;
  const bars = [["up", spread.up, -1, "raises the prediction"], ["down", spread.down, 1, "lowers it"]];
  for (const [name, counts, direction, words] of bars) {
    counts.forEach((count, i) => {
      const tall = (height * count) / most;
      const bar = svg("rect", { x: left + i * step, width: Math.max(step - 1, 0.5), height: tall,
        y: direction < 0 ? middle - tall : middle, fill: `var(--${name})` });
      bar.append(svg("title", {}, `${thousands(count)} substitutions, |delta| about ${number(10 ** (spread.from + (i + 0.5) * spread.step))}`));
      chart.append(bar);
    });
    chart.append(svg("text", { x: left - 6, y: middle + direction * 60, "text-anchor": "end" }, direction < 0 ? "raised" : "lowered"));
    chart.append(svg("text", { x: left, y: direction < 0 ? 20 : 205 }, direction < 0 ? `${thousands(most)} in the tallest bar` : ""));
  }
  chart.append(svg("line", { x1: left, x2: right, y1: middle, y2: middle, stroke: "var(--line)" }));
  for (let power = Math.ceil(spread.from); power <= spread.from + n * spread.step; power++) {
    const x = left + ((power - spread.from) / spread.step) * step;
    chart.append(svg("line", { x1: x, x2: x, y1: 24, y2: 190, stroke: "var(--line)", "stroke-dasharray": "2 4" }));
    chart.append(svg("text", { x, y: 207, "text-anchor": "middle" }, `1e${power}`));
  }
}
