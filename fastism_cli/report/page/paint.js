// Drawing a region: the strip of the whole region, and for each target a logo over a heat map. A context is that of a
// canvas, or the brush that writes SVG.

const MARGIN = 58; // left of both plots, for labels
const RIGHT = 10;
const LOGO = { top: 10, bottom: 190 };
const HEAT = { top: 204, row: 22 };
const LETTER_WIDTH = 5; // pixels; narrower columns get bars
const FONT = "12px system-ui, sans-serif";

function plotWidth(canvas) { return canvas.clientWidth - MARGIN - RIGHT; }
function detailHeight() { return HEAT.top + HEAT.row * letters.length + 40; }

function brush(canvas) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * scale);
  canvas.height = Math.round(canvas.clientHeight * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  context.font = FONT;
  return context;
}

/** The strip, and each panel on its own canvas. */
function paint(panels) {
  refreshPalette();
  paintOverview(panels[0].region, byId("overview"));
  for (const panel of panels) {
    panel.canvas.style.height = `${detailHeight()}px`;
    paintDetail(brush(panel.canvas), panel, panel.canvas.clientWidth);
  }
}

/** Lowest and highest importance of some columns, 0 among them. */
function extent(region, from, to) {
  let low = 0, high = 0;
  for (let column = from; column < to; column++) {
    const value = region.importance(column);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low === high ? [-1, 1] : [low, high];
}

function columnsInView(region) { return [Math.floor(view.from), Math.min(Math.ceil(view.to), region.width)]; }

function paintOverview(region, canvas) {
  const context = brush(canvas), wide = plotWidth(canvas), tall = canvas.clientHeight;
  const [low, high] = extent(region, 0, region.width);
  const y = (value) => 4 + (tall - 8) * (high - value) / (high - low);
  const x = (column) => MARGIN + (wide * column) / region.width;
  context.fillStyle = palette.raised;
  context.fillRect(MARGIN, 0, wide, tall);
  context.fillStyle = palette.line;
  context.fillRect(x(view.from), 0, Math.max(x(view.to) - x(view.from), 2), tall);
  context.fillStyle = palette.ink;
  for (let pixel = 0; pixel < wide; pixel++) {
    const from = Math.floor((pixel * region.width) / wide), to = Math.max(Math.floor(((pixel + 1) * region.width) / wide), from + 1);
    let [bottom, top] = [0, 0];
    for (let column = from; column < to; column++) {
      const value = region.importance(column);
      bottom = Math.min(bottom, value || 0);
      top = Math.max(top, value || 0);
    }
    context.fillRect(MARGIN + pixel, y(top), 1, Math.max(y(bottom) - y(top), 0.6));
  }
  context.fillStyle = palette.dim;
  context.textAlign = "right";
  context.fillText("whole", MARGIN - 8, tall / 2 - 2);
  context.fillText("region", MARGIN - 8, tall / 2 + 12);
}

/** One panel from (0, 0) on, so many pixels wide. */
function paintDetail(context, { region, limits, largest }, wide) {
  const plot = wide - MARGIN - RIGHT, step = plot / (view.to - view.from), [from, to] = columnsInView(region);
  const x = (column) => MARGIN + (column - view.from) * step;
  const y = (value) => LOGO.top + (LOGO.bottom - LOGO.top) * (limits[1] - value) / (limits[1] - limits[0]);
  paintScale(context, limits, y, plot);
  context.save();
  context.beginPath();
  context.rect(MARGIN, 0, plot, detailHeight());
  context.clip();
  paintLogo(context, region, from, to, x, y, step);
  paintHeat(context, region, from, to, x, step, largest);
  context.restore();
  paintPlaces(context, region, from, to, x, step, wide);
}

function paintScale(context, [low, high], y, plot) {
  context.fillStyle = palette.dim;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const apart = [low, high].filter((value) => Math.abs(y(value) - y(0)) > 14);
  for (const value of [0, ...apart]) context.fillText(Number(value.toPrecision(2)), MARGIN - 8, y(value));
  Array.from(letters).forEach((letter, i) => context.fillText(letter, MARGIN - 8, HEAT.top + (i + 0.5) * HEAT.row));
  context.fillStyle = palette.line;
  context.fillRect(MARGIN, y(0) - 0.5, plot, 1);
}

/** Columns to draw: all, or the one of the largest value in each pixel. */
function* eachPixel(from, to, step, value) {
  const group = Math.max(Math.floor(1 / step), 1);
  for (let first = from; first < to; first += group) {
    let best = first;
    for (let column = first + 1; column < Math.min(first + group, to); column++) {
      if (Math.abs(value(column) || 0) > Math.abs(value(best) || 0)) best = column;
    }
    yield [first, best];
  }
}

function paintLogo(context, region, from, to, x, y, step) {
  for (const [column, best] of eachPixel(from, to, step, region.importance)) {
    const value = region.importance(best), base = region.base(best);
    if (!value) continue; // NaN too
    const top = Math.min(y(value), y(0)), tall = Math.abs(y(value) - y(0));
    context.fillStyle = baseColour(base);
    if (step < LETTER_WIDTH) context.fillRect(x(column), top, Math.max(step, 1), tall);
    else stretched(context, base, { left: x(column), top, wide: step, tall });
  }
}

function baseColour(base) { return palette[base === "U" ? "T" : base] || palette.other; }

function paintHeat(context, region, from, to, x, step, largest) {
  const shades = ramp();
  const wide = step > 3 ? step - 0.5 : Math.max(step, 1) + 0.5;
  for (let letter = 0; letter < letters.length; letter++) {
    for (const [column, best] of eachPixel(from, to, step, (c) => region.delta(c, letter))) {
      const value = region.delta(best, letter);
      context.fillStyle = Number.isNaN(value) ? palette.none : shades(value / (largest || 1));
      context.fillRect(x(column), HEAT.top + letter * HEAT.row, wide, HEAT.row - 1);
      if (letters[letter] === region.base(column) && step > 3) markReference(context, x(column) + step / 2, letter);
    }
  }
  if (view.column !== null) paintCursor(context, x(view.column), step);
}

function markReference(context, x, letter) {
  context.fillStyle = palette.dim;
  context.fillRect(x - 1.2, HEAT.top + (letter + 0.5) * HEAT.row - 1.7, 2.4, 2.4);
}

function paintCursor(context, x, step) {
  context.strokeStyle = palette.accent;
  context.lineWidth = 1.5;
  const letter = view.letter;
  const [top, tall] = letter === null ? [HEAT.top, HEAT.row * letters.length] : [HEAT.top + letter * HEAT.row, HEAT.row - 1];
  context.strokeRect(x, top, Math.max(step - 0.5, 2), tall);
}

/** Position numbers under the heat map, at round numbers of the genome. */
function paintPlaces(context, region, from, to, x, step, wide) {
  const y = HEAT.top + HEAT.row * letters.length;
  const every = [1, 2, 5].flatMap((m) => [0, 1, 2, 3, 4, 5, 6, 7].map((p) => m * 10 ** p)).sort((a, b) => a - b)
    .find((n) => n * step >= 95) || to - from;
  context.fillStyle = palette.dim;
  context.textAlign = "center";
  context.textBaseline = "top";
  for (let column = from; column < to; column++) {
    const middle = x(column) + step / 2;
    if (shown(region.position(column)) % every || middle < MARGIN || middle > wide - 30) continue;
    context.fillRect(middle - 0.5, y, 1, 5);
    context.fillText(thousands(shown(region.position(column))), middle, y + 8);
  }
  context.textAlign = "left";
  context.fillText(`${region.map.chrom}, ${view.flipped ? "-" : "+"} strand`, MARGIN, y + 23);
}

function letterAt(canvas, event) {
  const row = Math.floor((event.clientY - canvas.getBoundingClientRect().top - HEAT.top) / HEAT.row);
  return row >= 0 && row < letters.length ? row : null;
}

/** Colour of a share from -1 to 1, between three colours of the style sheet. */
function ramp() {
  const parse = (name) => palette[name].slice(1).match(/../g).map((x) => parseInt(x, 16));
  const [down, zero, up] = ["down", "zero", "up"].map(parse);
  return (share) => {
    const end = share < 0 ? down : up, part = Math.min(Math.abs(share), 1);
    return `rgb(${zero.map((value, i) => Math.round(value + (end[i] - value) * part)).join(", ")})`;
  };
}
