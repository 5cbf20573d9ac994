// One region: what is in view, and how the reader moves in it. Columns count from the left of the picture.

const NARROWEST = 10; // bases in view at least
const READABLE = 7; // pixels of a letter
const view = { from: 0, to: 1, flipped: false, column: null, letter: null };

/** The region as it is drawn: on the strand that was chosen, column 0 at the left. */
function drawn(track = state.track) {
  const map = data.maps[state.map], scores = scoresOf(state.map, track), width = map.seq.length, size = letters.length;
  const at = (column) => (view.flipped ? width - 1 - column : column);
  const turned = Array.from(letters, (x) => letters.indexOf(view.flipped ? complement[x] : x));
  return {
    map, width, largest: scores.largest, row: map.row,
    base: (column) => (view.flipped ? complement[map.seq[at(column)]] : map.seq[at(column)]),
    importance: (column) => scores.importance[at(column)],
    delta: (column, letter) => scores.delta[at(column) * size + turned[letter]],
    position: (column) => map.start + at(column),
    column: (position) => at(position - map.start),
  };
}

function openRegion(map, focus) {
  const isFirst = byId("view").hidden;
  state.map = map;
  view.flipped = false;
  byId("view").hidden = false;
  showSite();
  showPage();
  if (!isFirst) keepAddress();
  if (focus) byId("detail").focus();
}

function showView() {
  if (state.map === null) return;
  const region = drawn(), i = region.row, scores = data.tracks[state.track].scores;
  const strand = view.flipped ? "-" : "+";
  byId("view-title").textContent = `${rows.name[i] || "(no name)"}  ${place(rows.chrom[i], rows.start[i], rows.end[i])}`;
  byId("view-facts").textContent =
    `${data.tracks[state.track].label}: prediction ${number(scores.prediction[i])}, largest delta ${number(scores.delta[i])}. ` +
    `The model saw the ${rows.model_strand[i]} strand. Shown: ${thousands(Math.round(view.to - view.from))} of ${thousands(region.width)} bases, ${strand} strand.`;
  byId("flip").setAttribute("aria-pressed", String(view.flipped));
  const order = data.tracks[state.track].order, rank = order.indexOf(state.map);
  byId("region-back").disabled = rank <= 0;
  byId("region-on").disabled = rank === order.length - 1;
  const shownPanels = panels();
  showLegend(shownPanels);
  showCaptions();
  showLinks();
  paint(shownPanels);
}

function showLegend(shownPanels) {
  const ends = new Set(shownPanels.map((panel) => panel.largest)), largest = ends.size === 1 ? [...ends][0] : null;
  const [low, high] = largest === null ? ["lowest", "highest of each"] : [number(-largest), `+${number(largest)}`];
  byId("legend").replaceChildren("delta ", element("span", {}, low), element("i", {}), element("span", {}, high));
}

/** The stretch in view, kept inside of the region. */
function setRange(from, to) {
  const width = data.maps[state.map].seq.length;
  const wide = Math.min(Math.max(to - from, Math.min(NARROWEST, width)), width);
  view.from = Math.min(Math.max(from + (to - from - wide) / 2, 0), width - wide);
  view.to = view.from + wide;
  showView();
}

function zoom(factor, centre) {
  setRange(centre - (centre - view.from) * factor, centre + (view.to - centre) * factor);
}

function zoomMiddle(factor) { zoom(factor, view.column === null ? (view.from + view.to) / 2 : view.column + 0.5); }

function showAll() { setRange(0, data.maps[state.map].seq.length); }

/** About a hundred bases around the strongest site, or as many as can be read; the whole region where that is not much more. */
function showSite() {
  const map = data.maps[state.map], width = map.seq.length, found = data.tracks[state.track].scores.site_at[map.row];
  point(null, null);
  const half = Math.min(50, Math.max(Math.floor(plotWidth(byId("detail")) / READABLE / 2), 10));
  if (width <= 3.2 * half || found === null) return showAll();
  const column = view.flipped ? width - 1 - (found - map.start) : found - map.start;
  setRange(column - half, column + half);
}

/** Put the cursor on a letter of a column (letter null: on the base itself) and say what is there. */
function point(column, letter, track = state.track) {
  view.column = column;
  view.letter = letter;
  byId("readout").textContent = column === null ? "" : words(drawn(track), column, letter);
}

/** ``chr2:3,469 T>A  delta -1.234  importance of T 0.5`` */
function words(region, column, letter) {
  const base = region.base(column), where = `${region.map.chrom}:${thousands(shown(region.position(column)))}`;
  const importance = `importance of ${base} ${number(region.importance(column))}`;
  if (letter === null) return `${where} ${base}  ${importance}`;
  const alternate = letters[letter];
  if (alternate === base) return `${where} ${base} (reference)  delta 0  ${importance}`;
  const delta = region.delta(column, letter);
  return Number.isNaN(delta) ? `${where} ${base}  not computed` : `${where} ${base}>${alternate}  delta ${number(delta)}  ${importance}`;
}

function move(columns, rowsDown) {
  const width = data.maps[state.map].seq.length;
  const start = view.column === null ? Math.floor((view.from + view.to) / 2) : view.column;
  const column = Math.min(Math.max(start + columns, 0), width - 1);
  const letter = view.letter === null ? 0 : (view.letter + rowsDown + letters.length) % letters.length;
  const wide = view.to - view.from;
  if (column < view.from) setRange(column, column + wide);
  if (column + 1 > view.to) setRange(column + 1 - wide, column + 1);
  point(column, letter);
  showView();
}

const KEYS = {
  ArrowLeft: (event) => move(event.shiftKey ? -10 : -1, 0),
  ArrowRight: (event) => move(event.shiftKey ? 10 : 1, 0),
  ArrowUp: () => move(0, -1),
  ArrowDown: () => move(0, 1),
  "+": () => zoomMiddle(0.5),
  "=": () => zoomMiddle(0.5),
  "-": () => zoomMiddle(2),
  0: showAll,
  Home: () => move(-Infinity, 0),
  End: () => move(Infinity, 0),
};

function otherRegion(step) {
  const order = data.tracks[state.track].order, map = order[order.indexOf(state.map) + step];
  if (map !== undefined) openRegion(map, false);
}

function flip() {
  const width = data.maps[state.map].seq.length;
  view.flipped = !view.flipped;
  point(null, null);
  setRange(width - view.to, width - view.from);
}

function wireView() {
  const detail = byId("detail"), overview = byId("overview");
  byId("region-back").addEventListener("click", () => otherRegion(-1));
  byId("region-on").addEventListener("click", () => otherRegion(1));
  byId("zoom-in").addEventListener("click", () => zoomMiddle(0.5));
  byId("zoom-out").addEventListener("click", () => zoomMiddle(2));
  byId("zoom-all").addEventListener("click", showAll);
  byId("zoom-site").addEventListener("click", showSite);
  byId("flip").addEventListener("click", flip);
  detail.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
    event.preventDefault();
    KEYS[event.key](event);
  });
  wirePanel(detail, null);
  drag(overview, (event, start) => {
    const width = data.maps[state.map].seq.length, box = overview.getBoundingClientRect();
    const ends = [start.x, event.clientX].map((x) => width * Math.min(Math.max((x - box.left - MARGIN) / plotWidth(overview), 0), 1));
    const [from, to] = [Math.min(...ends), Math.max(...ends)], wide = start.to - start.from;
    if (to - from < NARROWEST) setRange(from - wide / 2, from + wide / 2); // a click: the same stretch, elsewhere
    else setRange(from, to);
  }, true);
  new ResizeObserver(() => requestAnimationFrame(showView)).observe(overview);
}

/** Pointer and wheel on the picture of a target; null is the chosen one. */
function wirePanel(canvas, track) {
  const tip = byId("tip");
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(event.deltaY < 0 ? 0.8 : 1.25, columnAt(canvas, event));
  }, { passive: false });
  canvas.addEventListener("pointermove", (event) => hover(event, canvas, tip, track ?? state.track));
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; });
  canvas.addEventListener("click", keepAddress);
  drag(canvas, (event, start) => {
    const by = (start.x - event.clientX) * (start.to - start.from) / plotWidth(canvas);
    setRange(start.from + by, start.to + by);
  });
}

/** Call ``moved(event, start)`` while the pointer is down; at the first press too if ``atOnce``. */
function drag(canvas, moved, atOnce) {
  let start = null;
  canvas.addEventListener("pointerdown", (event) => {
    start = { x: event.clientX, from: view.from, to: view.to };
    canvas.setPointerCapture(event.pointerId);
    if (atOnce) moved(event, start);
  });
  canvas.addEventListener("pointermove", (event) => { if (start) moved(event, start); });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { start = null; });
}

function columnAt(canvas, event) {
  const x = (event.clientX - canvas.getBoundingClientRect().left - MARGIN) / plotWidth(canvas);
  return view.from + x * (view.to - view.from);
}

function hover(event, canvas, tip, track) {
  const column = Math.floor(columnAt(canvas, event)), letter = letterAt(canvas, event);
  tip.hidden = !(column >= Math.floor(view.from) && column < view.to && column < data.maps[state.map].seq.length);
  if (tip.hidden) return;
  point(column, letter, track);
  tip.textContent = byId("readout").textContent;
  const right = event.clientX + 14 + tip.offsetWidth > innerWidth;
  tip.style.left = `${right ? event.clientX - 14 - tip.offsetWidth : event.clientX + 14}px`;
  tip.style.top = `${event.clientY + 16}px`;
  showView();
}
