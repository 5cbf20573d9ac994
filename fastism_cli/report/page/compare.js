// Several targets side by side: which are shown, on which scale.

const compared = new Set(); // tracks beside the chosen one
let oneScale = true;

function shownTracks() { return [state.track, ...data.tracks.keys()].filter((track, i, all) => all.indexOf(track) === i && (i === 0 || compared.has(track))); }

/** What each canvas shows: region, target, ends of its axis, largest delta. */
function panels() {
  const all = shownTracks().map((track) => {
    const region = drawn(track), [from, to] = columnsInView(region);
    return { track, region, canvas: canvasOf(track), limits: extent(region, from, to), largest: region.largest };
  });
  if (!oneScale || all.length === 1) return all;
  const limits = [Math.min(...all.map((one) => one.limits[0])), Math.max(...all.map((one) => one.limits[1]))];
  const largest = Math.max(...all.map((one) => one.largest));
  return all.map((one) => ({ ...one, limits, largest }));
}

function canvasOf(track) { return track === state.track ? byId("detail") : document.querySelector(`#panels canvas[data-track="${track}"]`); }

function caption(track) {
  const scores = data.tracks[track].scores;
  return `${data.tracks[track].label}: prediction ${number(scores.prediction[drawn(track).row])}`;
}

/** One figure for each target that is shown; that of the chosen one stays, as it has the focus and the keys. */
function refreshPanels() {
  const box = byId("panels"), tracks = shownTracks();
  for (const old of box.querySelectorAll("figure.more")) old.remove();
  for (const track of tracks.slice(1)) {
    const canvas = element("canvas", { "data-track": track, role: "img", "aria-label": `Logo and heat map of ${data.tracks[track].label}` });
    box.append(element("figure", { class: "panel more" }, element("figcaption", {}), canvas));
    wirePanel(canvas, track);
  }
  box.classList.toggle("several", tracks.length > 1);
}

function showCaptions() {
  const figures = byId("panels").querySelectorAll("figcaption");
  shownTracks().forEach((track, i) => { figures[i].textContent = caption(track); });
  figures[0].hidden = figures.length === 1;
}

function wireCompare() {
  byId("compare").hidden = data.tracks.length < 2;
  data.tracks.forEach((track, i) => {
    const box = element("input", { type: "checkbox", "data-compare": i });
    box.addEventListener("change", () => {
      if (box.checked) compared.add(i); else compared.delete(i);
      refreshPanels();
      showView();
    });
    byId("compare-list").append(element("label", { class: "field" }, box, track.label));
  });
  byId("one-scale").addEventListener("change", (event) => { oneScale = event.target.checked; showView(); });
}
