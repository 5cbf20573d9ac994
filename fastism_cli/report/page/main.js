// Wiring: the choice of target, light and dark, and what is shown at first.

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  showView(); // canvases do not follow the style sheet by themselves
}

function wireTheme() {
  let theme = 0;
  byId("theme").addEventListener("click", () => {
    theme = (theme + 1) % THEMES.length;
    setTheme(THEMES[theme]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showView);
}

function setTrack(track) {
  state.track = track;
  showSpread();
  refreshTable();
  refreshPanels();
  if (state.map !== null) point(null, null);
  showView();
}

function start() {
  showSummary();
  wireTheme();
  wireTable();
  wireView();
  wireCompare();
  wireSave();
  wireLinks();
  byId("track").addEventListener("change", (event) => setTrack(Number(event.target.value)));
  byId("search").value = ""; // a browser may keep what was typed before
  byId("track").value = "0";
  setTrack(0);
  const order = data.tracks[0].order;
  if (order.length) openRegion(order[0], false);
  openAddressed();
}

try {
  start();
} catch (error) {
  byId("trouble").hidden = false;
  byId("trouble").textContent = `This page cannot be shown: ${error}`;
  throw error;
}
