// Clip tab: the most probable classes of a video and the frames that the network saw.

import { upload } from "./api.js";
import { clock, complain, element, made, onFile, percent, say, showTop } from "./view.js";

let newest = 0;

export function startClip(model) {
  onFile("clip", (file) => predict(file, model()));
}

async function predict(file, model) {
  const turn = ++newest; // only the answer for the newest file is shown
  const progress = element("clip-progress");
  element("clip-result").hidden = true;
  progress.hidden = false;
  say(`Uploading ${file.name} ...`);
  try {
    const fields = { file, model, clips: element("clips").value, crops: element("crops").value };
    const answer = await upload("v1/predict", { ...fields, frames: true, top: 5 }, (share) => {
      if (turn === newest) progress.value = share;
    });
    if (turn === newest) show(answer);
  } catch (error) {
    if (turn === newest) complain(error);
  } finally {
    if (turn === newest) progress.hidden = true;
  }
}

function show(answer) {
  const [best] = answer.top;
  element("clip-title").textContent = answer.file;
  showTop(element("clip-top"), answer.top);
  element("clip-strip").replaceChildren(...answer.seen.map(picture));
  const video = answer.video;
  element("clip-facts").textContent =
    `${video.frames} frames of ${video.width} x ${video.height} pixels, ${video.codec}, ` +
    `${clock(video.duration_s)}; answered in ${Math.round(answer.took_ms)} ms by ${answer.model}.`;
  element("clip-result").hidden = false;
  say(`${answer.file}: ${best.name}, ${percent(best.prob)}.`);
}

function picture(seen) {
  const item = made("li");
  const image = made("img");
  image.src = seen.image;
  image.alt = `Frame ${seen.frame} at ${clock(seen.time_s)}`;
  item.append(image, made("span", clock(seen.time_s)));
  return item;
}
