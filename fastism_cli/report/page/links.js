// Links to a base of a region of this page (#peak_52:3,500), and to genome browsers at the bases in view.

/** ``{ name, position }`` of the part of an address after #; the position counts from 0, or is null. */
function addressed(hash) {
  let text = hash.replace(/^#/, "");
  try { text = decodeURIComponent(text); } catch { return null; }
  if (rows.name.includes(text)) return { name: text, position: null }; // such as chr1:100-200
  const parts = /^(.*?)(?::([\d,]+)(?:-[\d,]+)?)?$/s.exec(text);
  return text ? { name: parts[1], position: parts[2] === undefined ? null : typed(Number(parts[2].replaceAll(",", ""))) } : null;
}

/** The picture of a region by its name, or that over a base of a contig; of several the one that holds the base. */
function mapAt({ name, position }) {
  const holds = (map) => position === null || (map.start <= position && position < map.start + map.seq.length);
  const named = [...data.maps.keys()].filter((i) => rows.name[data.maps[i].row] === name);
  const over = [...data.maps.keys()].filter((i) => data.maps[i].chrom === name && position !== null);
  return named.find((i) => holds(data.maps[i])) ?? over.find((i) => holds(data.maps[i])) ?? named[0];
}

/** Show what the address names; says so where the page has no such picture. */
function openAddressed() {
  const wanted = addressed(location.hash);
  if (wanted === null || location.hash === "#regions") return false; // the link that skips the head
  const map = mapAt(wanted);
  if (map === undefined) {
    byId("readout").textContent = `This page has no picture of ${wanted.name}${wanted.position === null ? "" : `:${thousands(shown(wanted.position))}`}.`;
    return false;
  }
  openRegion(map, false);
  const column = drawn().column(wanted.position);
  if (wanted.position !== null && column >= 0 && column < drawn().width) {
    const half = (view.to - view.from) / 2;
    setRange(column + 0.5 - half, column + 0.5 + half);
    point(column, null);
    showView();
  } else if (wanted.position !== null) {
    byId("readout").textContent = `${rows.name[drawn().row]} does not hold base ${thousands(shown(wanted.position))}.`;
  }
  keepAddress();
  return true;
}

/** The address of the region, with the base that the cursor is on. */
function address() {
  const region = drawn(), name = rows.name[region.row];
  const position = view.column === null ? null : shown(region.position(view.column));
  if (!name) return `#${encodeURIComponent(region.map.chrom)}:${position ?? shown(region.position(Math.floor((view.from + view.to) / 2)))}`;
  return `#${encodeURIComponent(name)}${position === null ? "" : `:${position}`}`;
}

function keepAddress() {
  if (location.hash !== address()) history.replaceState(null, "", address());
}

// --- genome browsers ---

function ucscName(chrom) { return /^(\d+|[XY]|MT?)$/.test(chrom) ? `chr${chrom.replace("MT", "M")}` : chrom; }

function showLinks() {
  const genome = byId("genome").value.trim(), where = stretch().replaceAll(",", "");
  const [chrom, bases] = [where.slice(0, where.lastIndexOf(":")), where.slice(where.lastIndexOf(":"))];
  const query = (values) => new URLSearchParams(values).toString();
  const links = {
    ucsc: genome && `https://genome.ucsc.edu/cgi-bin/hgTracks?${query({ db: genome, position: ucscName(chrom) + bases })}`,
    igvweb: genome && `https://igv.org/app/?${query({ genome, locus: where })}`,
    igv: `http://localhost:60151/goto?${query({ locus: where })}`,
  };
  for (const [id, url] of Object.entries(links)) {
    if (url) byId(id).href = url;
    else byId(id).removeAttribute("href");
  }
  byId("here").href = address();
}

function wireLinks() {
  byId("genome").value = data.genome;
  byId("genome").addEventListener("input", showLinks);
  byId("here").addEventListener("click", (event) => {
    event.preventDefault();
    keepAddress();
    const whole = location.href;
    const say = (text) => { byId("readout").textContent = text; };
    if (navigator.clipboard) navigator.clipboard.writeText(whole).then(() => say(`Copied: ${whole}`), () => say(whole));
    else say(whole);
  });
  addEventListener("hashchange", openAddressed);
}
