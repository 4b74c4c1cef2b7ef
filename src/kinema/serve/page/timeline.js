// Long video tab: runs a timeline job on the server, then shows segments that seek in the video.

import { ask, upload } from "./api.js";
import { clock, complain, element, made, onFile, percent, say } from "./view.js";

const POLL_MS = 400;
let job = null;
let sending = null;
let newest = 0;
let address = null;

export function startTimeline(model) {
  onFile("timeline", (file) => make(file, model()));
  element("timeline-cancel").addEventListener("click", cancel);
  element("timeline-video").addEventListener("timeupdate", follow);
  element("timeline-video").addEventListener("error", () => {
    // The browser may not support the codec; the segments are still useful.
    if (address) element("timeline-video").hidden = true;
  });
}

async function make(file, model) {
  await cancel();
  const turn = ++newest;
  const progress = element("timeline-progress");
  sending = new AbortController();
  const { signal } = sending;
  element("timeline-result").hidden = true;
  element("timeline-running").hidden = false;
  say(`Uploading ${file.name} ...`);
  try {
    const fields = { file, model, window: element("window").value };
    const rule = { enter: element("enter").value, leave: element("leave").value };
    const started = await upload("v1/timeline", { ...fields, ...rule }, (share) => {
      progress.value = share / 4; // uploading is the smaller part
    }, signal);
    job = started.job;
    const ended = await finished(started.job, (share) => (progress.value = 0.25 + 0.75 * share));
    if (turn !== newest) return;
    if (ended.state === "failed") throw new Error(ended.error.message);
    if (ended.state === "cancelled") say("Cancelled.");
    else show(ended.result, file);
  } catch (error) {
    if (turn !== newest) return;
    if (signal.aborted) say("Cancelled.");
    else complain(error);
  } finally {
    if (turn === newest) {
      job = null;
      element("timeline-running").hidden = true;
    }
  }
}

async function finished(name, onProgress) {
  for (;;) {
    const now = await ask(`v1/timeline/${name}`);
    if (!["waiting", "running"].includes(now.state)) return now;
    onProgress(now.total ? now.done / now.total : 0);
    say(now.total ? `${now.done} of ${now.total} windows` : `The video is ${now.state} ...`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

async function cancel() {
  sending?.abort();
  if (job) await ask(`v1/timeline/${job}`, "DELETE").catch(() => null);
}

function show(result, file) {
  const video = element("timeline-video");
  if (address) URL.revokeObjectURL(address);
  address = URL.createObjectURL(file);
  video.hidden = false;
  video.src = address;
  element("timeline-title").textContent = result.path;
  element("timeline-now").textContent = "";
  const cursor = made("span", "", "cursor");
  const buttons = result.segments.map((segment) => bar(segment, result.duration_s));
  element("track").replaceChildren(...buttons, cursor);
  element("segments").replaceChildren(...result.segments.map(row));
  element("timeline-result").hidden = false;
  const count = result.segments.length;
  const found = count === 1 ? "1 segment" : `${count} segments`;
  say(`${result.path}, ${clock(result.duration_s)}: ${found}.`);
  if (result.error) complain(new Error(result.error));
}

function bar(segment, duration) {
  const node = made("button", segment.name);
  node.type = "button";
  node.title = label(segment);
  node.setAttribute("aria-label", label(segment));
  node.style.left = `${(100 * segment.start_s) / duration}%`;
  node.style.width = `${(100 * (segment.end_s - segment.start_s)) / duration}%`;
  node.style.background = `hsl(${(segment.label * 137.5) % 360} 70% 72%)`;
  node.dataset.start = segment.start_s;
  node.dataset.end = segment.end_s;
  node.dataset.duration = duration;
  node.addEventListener("click", () => {
    const video = element("timeline-video");
    video.currentTime = segment.start_s;
    mark(segment.start_s, duration);
    element("timeline-now").textContent = label(segment);
  });
  return node;
}

const label = (segment) =>
  `${segment.name}, ${clock(segment.start_s)} to ${clock(segment.end_s)}, ${percent(segment.prob)}`;

function row(segment) {
  const node = made("tr");
  const cells = [clock(segment.start_s), clock(segment.end_s), segment.name, percent(segment.prob)];
  node.append(...cells.map((text) => made("td", text)));
  return node;
}

function follow() {
  const first = element("track").querySelector("button");
  if (first) mark(element("timeline-video").currentTime, Number(first.dataset.duration));
}

function mark(time, duration) {
  for (const node of element("track").querySelectorAll("button")) {
    const now = Number(node.dataset.start) <= time && time < Number(node.dataset.end);
    node.setAttribute("aria-current", now);
  }
  element("track").querySelector(".cursor").style.left = `${(100 * time) / duration}%`;
}
