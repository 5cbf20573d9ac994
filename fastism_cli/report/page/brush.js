// Letters as outlines, and a brush that writes SVG where a canvas would be painted: the same picture on both.

/** Outlines in a square of 100 by 100, which they fill; holes by the even-odd rule. */
const OUTLINES = {
  A: "M0 100L38 0L62 0L100 100L78 100L70 77L30 77L22 100ZM36 59L64 59L50 19Z",
  C: "M98 32C93 11 76 0 53 0C21 0 0 20 0 50C0 80 20 100 52 100C76 100 94 87 100 64L77 59C73 74 64 82 51 82C33 82 23 71 23 49C23 28 33 18 52 18C64 18 73 25 76 38Z",
  G: "M97 30C91 10 76 0 53 0C20 0 0 20 0 51C0 81 20 100 54 100C73 100 90 93 100 83L100 46L53 46L53 63L79 63L79 74C73 79 64 82 55 82C35 82 23 71 23 50C23 29 34 18 53 18C66 18 73 24 76 34Z",
  T: "M0 0L100 0L100 18L61 18L61 100L39 100L39 18L0 18Z",
  U: "M0 0L22 0L22 56C22 74 31 82 50 82C69 82 78 74 78 56L78 0L100 0L100 56C100 86 80 100 50 100C20 100 0 86 0 56Z",
  N: "M0 100L0 0L21 0L78 62L78 0L100 0L100 100L79 100L22 38L22 100Z",
};
const paths = new Map();

/** A letter that fills its box exactly. */
function stretched(context, letter, box) {
  if (box.tall < 0.5 || !OUTLINES[letter]) return;
  const wide = box.wide * 0.96;
  if (context instanceof SvgBrush) return context.letter(letter, { ...box, wide });
  if (!paths.has(letter)) paths.set(letter, new Path2D(OUTLINES[letter]));
  context.save();
  context.translate(box.left, box.top);
  context.scale(wide / 100, box.tall / 100);
  context.fill(paths.get(letter), "evenodd");
  context.restore();
}

const ANCHORS = { left: "start", center: "middle", right: "end" };
const BASELINES = { top: "hanging", middle: "central", alphabetic: "auto" };

/** What of a canvas' context the pictures need, as the elements of an SVG. */
class SvgBrush {
  constructor() {
    Object.assign(this, { parts: [], stack: [], x: 0, y: 0, clips: 0, fillStyle: "", strokeStyle: "", lineWidth: 1,
      textAlign: "left", textBaseline: "alphabetic", font: "12px sans-serif" });
  }

  add(tag, attributes, text) {
    const values = Object.entries(attributes).map(([name, value]) => ` ${name}="${escaped(typeof value === "number" ? +value.toFixed(3) : value)}"`);
    this.parts.push(text === undefined ? `<${tag}${values.join("")}/>` : `<${tag}${values.join("")}>${escaped(text)}</${tag}>`);
  }

  save() { this.stack.push({ x: this.x, y: this.y, open: 0 }); }

  restore() {
    const { x, y, open } = this.stack.pop();
    Object.assign(this, { x, y });
    this.parts.push("</g>".repeat(open));
  }

  translate(x, y) { this.x += x; this.y += y; }
  beginPath() {}
  rect(x, y, width, height) { this.outline = { x: this.x + x, y: this.y + y, width, height }; }

  /** To the last rectangle, until the state that was saved comes back. */
  clip() {
    const id = `clip${this.clips++}`, { x, y, width, height } = this.outline;
    this.parts.push(`<clipPath id="${id}"><rect x="${x}" y="${y}" width="${width}" height="${height}"/></clipPath><g clip-path="url(#${id})">`);
    this.stack[this.stack.length - 1].open++;
  }

  fillRect(x, y, width, height) { this.add("rect", { x: this.x + x, y: this.y + y, width, height, fill: this.fillStyle }); }

  strokeRect(x, y, width, height) {
    this.add("rect", { x: this.x + x, y: this.y + y, width, height, fill: "none", stroke: this.strokeStyle, "stroke-width": this.lineWidth });
  }

  fillText(text, x, y) {
    const [, weight, size] = /^(bold )?([\d.]+)px/.exec(this.font);
    this.add("text", { x: this.x + x, y: this.y + y, fill: this.fillStyle, "font-size": Number(size),
      "font-weight": weight ? "bold" : "normal", "text-anchor": ANCHORS[this.textAlign],
      "dominant-baseline": BASELINES[this.textBaseline] }, String(text));
  }

  letter(letter, { left, top, wide, tall }) {
    const place = [this.x + left, this.y + top].map((x) => +x.toFixed(3)), scale = [wide / 100, tall / 100].map((x) => +x.toFixed(6));
    this.add("path", { "data-letter": letter, d: OUTLINES[letter], transform: `translate(${place}) scale(${scale})`,
      fill: this.fillStyle, "fill-rule": "evenodd" });
  }

  /** The whole file. */
  text(width, height) {
    return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="Helvetica, Arial, sans-serif">${this.parts.join("\n")}</svg>\n`;
  }
}

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (x) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[x]).replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/g, " ");
}
