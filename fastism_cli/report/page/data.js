// What the page holds: the JSON that was written into it, and the deltas in it as arrays of numbers.

const data = JSON.parse(document.getElementById("data").textContent);
const letters = data.letters;
const complement = data.complement;
const state = { track: 0, map: null };

function byId(id) { return document.getElementById(id); }

function element(tag, attributes, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Four significant digits, without trailing zeros; "-" where there is no number. */
function number(value) {
  if (value === null || Number.isNaN(value)) return "-";
  return value === 0 ? "0" : String(Number(value.toPrecision(4)));
}

function thousands(integer) { return integer.toString().replace(/\B(?=(\d{3})+$)/g, ","); }

// Data count positions from 0 and exclude ends; people read and type them from 1 with the last base: only here.
function shown(position) { return position + 1; }
function place(chrom, start, end) { return `${chrom}:${thousands(shown(start))}-${thousands(end)}`; }
function typed(number) { return number - 1; }

/** Floats of 24 bits, the upper three bytes of a float32, least first. */
function floats(base64) {
  const bytes = atob(base64);
  const bits = new Uint32Array(bytes.length / 3);
  for (let i = 0; i < bits.length; i++) {
    bits[i] = (bytes.charCodeAt(3 * i) << 8) | (bytes.charCodeAt(3 * i + 1) << 16) | (bytes.charCodeAt(3 * i + 2) << 24);
  }
  return new Float32Array(bits.buffer);
}

const unpacked = new Map();

/**
 * Deltas and importance of one region for one target, on the + strand: delta[column * letters + letter].
 * The file leaves out the reference base, whose delta is 0; at an N every letter is there.
 */
function scoresOf(mapIndex, track) {
  const key = `${mapIndex} ${track}`;
  if (!unpacked.has(key)) {
    if (unpacked.size > 200) unpacked.clear();
    unpacked.set(key, unpack(data.maps[mapIndex].seq, floats(data.maps[mapIndex].delta[track])));
  }
  return unpacked.get(key);
}

function unpack(seq, values) {
  const size = letters.length;
  const delta = new Float32Array(seq.length * size);
  const importance = new Float32Array(seq.length).fill(NaN);
  let next = 0, largest = 0;
  for (let column = 0; column < seq.length; column++) {
    let sum = 0;
    for (let letter = 0; letter < size; letter++) {
      const value = letters[letter] === seq[column] ? 0 : values[next++];
      delta[column * size + letter] = value;
      sum += value;
      if (Math.abs(value) > largest) largest = Math.abs(value);
    }
    if (seq[column] !== "N") importance[column] = -sum / size;
  }
  return { delta, importance, largest };
}

let palette = {};

/** Read the colours of the style sheet; asking for each as it is needed would be slow. */
function refreshPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = ["ink", "paper", "dim", "line", "raised", "accent", "A", "C", "G", "T", "other", "up", "zero", "down", "none"];
  palette = Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}
