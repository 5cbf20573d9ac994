// The table of regions: sorted by any column, searched by words and by place, a page at a time.

const PAGE = 20;
const rows = data.rows, count = rows.name.length;
const table = { sort: "site", descending: true, shown: [], page: 0 };

/** key, share of the width in %, heading, value of a row (null: none), whether it is a number, text of the cell */
function columns() {
  const scores = data.tracks[state.track].scores;
  const at = (i) => {
    const change = scores.change[i];
    return change === null ? "-" : `${rows.chrom[i]}:${thousands(shown(scores.at[i]))} ${change}`;
  };
  return [
    { key: "name", wide: 13, title: "Name", of: (i) => rows.name[i] },
    { key: "place", wide: 18, title: "Location", of: (i) => i, compare: byPlace, text: (i) => place(rows.chrom[i], rows.start[i], rows.end[i]) },
    { key: "strand", wide: 7, title: "Strand", of: (i) => rows.strand[i] },
    { key: "status", wide: 10, title: "Status", of: (i) => rows.status[i] },
    { key: "prediction", wide: 9, title: "Prediction", number: true, of: (i) => scores.prediction[i] },
    { key: "delta", wide: 8.5, title: "Largest delta", number: true, of: (i) => scores.delta[i] },
    { key: "at", wide: 15, title: "at", of: (i) => scores.at[i], compare: (i, j) => rankOf(i) - rankOf(j) || scores.at[i] - scores.at[j], text: at },
    { key: "site", wide: 8.5, title: "Strongest site", number: true, of: (i) => scores.site[i], rank: Math.abs },
    { key: "unknown", wide: 4, title: "N", number: true, of: (i) => rows.unknown[i] },
    { key: "padded", wide: 7, title: "Padded", number: true, of: (i) => rows.padded[i] },
  ];
}

const chromRank = new Map(data.contigs.map((name, i) => [name, i]));
function rankOf(i) { return chromRank.get(rows.chrom[i]) ?? chromRank.size; }
function byPlace(i, j) {
  return rankOf(i) - rankOf(j) || rows.start[i] - rows.start[j] || rows.end[i] - rows.end[j];
}

function sorted(wanted) {
  const column = columns().find((c) => c.key === table.sort);
  const value = (i) => (column.rank && column.of(i) !== null ? column.rank(column.of(i)) : column.of(i));
  const natural = new Intl.Collator("en", { numeric: true });
  const compare = column.compare || ((i, j) => {
    const a = value(i), b = value(j);
    return typeof a === "string" ? natural.compare(a, b) : a - b;
  });
  const has = wanted.filter((i) => column.of(i) !== null), lacks = wanted.filter((i) => column.of(i) === null);
  has.sort((i, j) => (table.descending ? compare(j, i) : compare(i, j)) || i - j);
  return has.concat(lacks); // what has no number is last in either direction
}

function matcher(query) {
  const tests = query.trim().toLowerCase().split(/\s+/).filter(Boolean).map((word) => {
    const range = /^(.+):([\d,]+)(?:-([\d,]+))?$/.exec(word);
    const [first, end] = range ? [range[2], range[3]].map((x) => x && Number(x.replaceAll(",", ""))) : [];
    const start = typed(first);
    const stop = end === undefined ? start + 1 : end;
    const covers = (i) => range && rows.chrom[i].toLowerCase() === range[1] && rows.start[i] < stop && rows.end[i] > start;
    return (i) => covers(i) || searched[i].includes(word);
  });
  return (i) => tests.every((test) => test(i));
}

const searched = rows.name.map((name, i) =>
  [name, `${rows.chrom[i]}:${shown(rows.start[i])}-${rows.end[i]}`, place(rows.chrom[i], rows.start[i], rows.end[i]), rows.status[i]].join("\n").toLowerCase());

function refreshTable() {
  const wanted = Array.from({ length: count }, (_, i) => i).filter(matcher(byId("search").value));
  table.shown = sorted(wanted);
  table.page = 0;
  const more = data.left_out ? ` (the ${thousands(data.left_out)} weakest regions of the file are left out)` : "";
  byId("found").textContent = `${thousands(wanted.length)} of ${thousands(count)} regions${more}`;
  showHead();
  showPage();
}

function showHead() {
  const head = element("tr", {});
  for (const column of columns()) {
    const isSorted = column.key === table.sort;
    const button = element("button", { type: "button", "data-sort": column.key }, column.title + (isSorted ? (table.descending ? " ▼" : " ▲") : ""));
    button.addEventListener("click", () => sortBy(column));
    const order = isSorted ? (table.descending ? "descending" : "ascending") : "none";
    head.append(element("th", { style: `width: ${column.wide}%`, scope: "col", "aria-sort": order, class: column.number ? "number" : "text" }, button));
  }
  byId("table").tHead.replaceChildren(head);
}

function sortBy(column) {
  table.descending = column.key === table.sort ? !table.descending : Boolean(column.number);
  table.sort = column.key;
  refreshTable();
  document.querySelector(`[data-sort="${column.key}"]`).focus(); // the heading was made anew
}

function showPage() {
  const last = Math.max(Math.ceil(table.shown.length / PAGE) - 1, 0);
  table.page = Math.min(Math.max(table.page, 0), last);
  const first = table.page * PAGE, here = table.shown.slice(first, first + PAGE);
  byId("table").tBodies[0].replaceChildren(...here.map(tableRow));
  byId("page").textContent = here.length ? `${thousands(first + 1)} to ${thousands(first + here.length)}` : "none";
  for (const id of ["page-first", "page-back"]) byId(id).disabled = table.page === 0;
  for (const id of ["page-on", "page-last"]) byId(id).disabled = table.page === last;
}

function tableRow(i) {
  const row = element("tr", state.map !== null && data.maps[state.map].row === i ? { class: "shown" } : {});
  for (const column of columns()) {
    const value = column.of(i);
    const text = column.text ? column.text(i) : column.number ? number(value) : value;
    const cell = element("td", { class: column.number ? "number" : "text", title: text }, column.key === "name" ? link(i, text) : text);
    row.append(cell);
  }
  return row;
}

/** A region's name: a button if the page holds its picture. */
function link(i, name) {
  const map = rows.map[i], text = name || "(no name)";
  if (map === null) return text;
  const button = element("button", { type: "button", "data-map": map }, text);
  button.addEventListener("click", () => openRegion(map, true));
  return button;
}

function turn(page) {
  table.page = page;
  showPage();
}

function wireTable() {
  byId("search").addEventListener("input", refreshTable);
  byId("page-first").addEventListener("click", () => turn(0));
  byId("page-back").addEventListener("click", () => turn(table.page - 1));
  byId("page-on").addEventListener("click", () => turn(table.page + 1));
  byId("page-last").addEventListener("click", () => turn(Infinity));
}
