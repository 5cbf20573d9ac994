// Saving what is shown: the picture as PNG or SVG, the table as CSV.

const SAVED = { top: 34, caption: 20, least: 640, scale: 2 };

function save(name, blob) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** Region and stretch as a part of a file name. */
function savedName(ending) {
  const stem = data.title.replace(/(\.ism)?\.h5$/, "");
  const name = `${stem}.${rows.name[drawn().row] || stretch().replaceAll(",", "")}`;
  return `${name.replace(/[^\w.+-]+/g, "-").replace(/^[.-]+/, "")}.${ending}`;
}

/** The bases in view, as people write them. */
function stretch() {
  const region = drawn(), [from, to] = columnsInView(region);
  const ends = [region.position(from), region.position(to - 1)];
  return place(region.map.chrom, Math.min(...ends), Math.max(...ends) + 1);
}

/** Title and panels one below the other, by a context, on white paper whatever the theme; returns its size. */
function compose(begin) {
  const root = document.documentElement.dataset, theme = root.theme;
  root.theme = "light";
  refreshPalette();
  const size = composed(begin);
  if (theme === undefined) delete root.theme;
  else root.theme = theme;
  refreshPalette();
  return size;
}

function composed(begin) {
  const all = panels().map((panel) => ({ ...panel, text: caption(panel.track) }));
  const wide = Math.max(byId("detail").clientWidth, SAVED.least), each = detailHeight() + SAVED.caption;
  const size = [wide, SAVED.top + all.length * each + 8], context = begin(...size), [column, letter] = [view.column, view.letter];
  context.fillStyle = palette.paper;
  context.fillRect(0, 0, ...size);
  context.fillStyle = palette.ink;
  context.font = `bold ${FONT}`;
  context.textBaseline = "middle";
  context.textAlign = "left";
  context.fillText(byId("view-title").textContent, MARGIN, SAVED.top / 2);
  context.font = FONT;
  view.column = view.letter = null; // no cursor
  all.forEach((panel, i) => {
    context.save();
    context.translate(0, SAVED.top + i * each);
    context.fillStyle = palette.ink;
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.fillText(panel.text, MARGIN, SAVED.caption / 2);
    context.translate(0, SAVED.caption);
    paintDetail(context, panel, wide);
    context.restore();
  });
  Object.assign(view, { column, letter });
  return size;
}

function saveSvg() {
  const made = new SvgBrush(), size = compose(() => made);
  save(savedName("svg"), new Blob([made.text(...size)], { type: "image/svg+xml" }));
}

function savePng() {
  const canvas = document.createElement("canvas");
  compose((wide, tall) => {
    [canvas.width, canvas.height] = [wide * SAVED.scale, tall * SAVED.scale];
    const context = canvas.getContext("2d");
    context.scale(SAVED.scale, SAVED.scale);
    return context;
  });
  canvas.toBlob((blob) => save(savedName("png"), blob), "image/png");
}

/** The rows that the search left, in their order, as the table shows them; numbers with all their digits. */
function csv() {
  const shownColumns = columns(), field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const cell = (column, i) => {
    const value = column.of(i);
    return value === null ? "" : String(column.text ? column.text(i) : value);
  };
  const lines = [shownColumns.map((column) => column.title), ...table.shown.map((i) => shownColumns.map((column) => cell(column, i)))];
  return lines.map((line) => line.map(field).join(",") + "\r\n").join("");
}

function saveCsv() {
  const target = data.tracks[state.track].label.replace(/[^\w.+-]+/g, "-");
  save(`${data.title.replace(/(\.ism)?\.h5$/, "")}.${target}.csv`, new Blob([csv()], { type: "text/csv" }));
}

function wireSave() {
  byId("save-png").addEventListener("click", savePng);
  byId("save-svg").addEventListener("click", saveSvg);
  byId("save-csv").addEventListener("click", saveCsv);
}
