// Page setup: model list, tabs, color theme and API key.

import { ask, key, setKey } from "./api.js";
import { startClip } from "./clip.js";
import { showHint, startLive, stopLive } from "./live.js";
import { startTimeline } from "./timeline.js";
import { complain, element, say } from "./view.js";

const THEME = "kinema-theme";
let models = [];

const model = () => element("model").value;
const canStream = () => Boolean(models.find((entry) => entry.name === model())?.live);

async function loadModels() {
  try {
    ({ models } = await ask("v1/models"));
  } catch (error) {
    if (error.status !== 401) complain(error);
    else askForKey();
    return;
  }
  element("key-form").hidden = true;
  element("model").replaceChildren(...models.map((entry) => new Option(entry.name)));
  say(`${models.length === 1 ? "1 model" : `${models.length} models`} ready.`);
  showHint(canStream());
}

function askForKey() {
  if (key()) complain(new Error("That is not this server's API key."));
  else say("This server needs its API key.");
  element("key-form").hidden = false;
  element("key").value = "";
  element("key").focus();
}

function startTabs() {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  const choose = (tab) => {
    for (const other of tabs) {
      const chosen = other === tab;
      other.setAttribute("aria-selected", chosen);
      other.tabIndex = chosen ? 0 : -1;
      element(other.getAttribute("aria-controls")).hidden = !chosen;
    }
    if (tab.id !== "tab-live") stopLive();
    say("");
  };
  tabs.forEach((tab, place) => {
    tab.addEventListener("click", () => choose(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = tabs[(place + step + tabs.length) % tabs.length];
      choose(next);
      next.focus();
    });
  });
}

function startTheme() {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const show = () => element("theme").setAttribute("aria-pressed", isDark());
  const kept = localStorage.getItem(THEME);
  if (kept) root.dataset.theme = kept;
  element("theme").addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    localStorage.setItem(THEME, root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

element("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(element("key").value);
  loadModels();
});
element("model").addEventListener("change", () => {
  stopLive();
  showHint(canStream());
});
// Without this, a file dropped beside the drop zone would replace the page.
for (const kind of ["dragover", "drop"]) {
  window.addEventListener(kind, (event) => event.preventDefault());
}
startTheme();
startTabs();
startClip(model);
startTimeline(model);
startLive(model, canStream);
loadModels();
