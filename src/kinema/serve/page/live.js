// Camera tab: frames over a WebSocket. The next frame is sent after the answer to the last one, so
// that a slow server or network lowers the frame rate instead of increasing the latency.

import { key, streamAddress } from "./api.js";
import { complain, element, say, showTop } from "./view.js";

const QUALITY = 0.85;
let session = null;
let beginning = false;

export function startLive(model, canStream) {
  element("live-start").addEventListener("click", () => {
    if (session) session.stop("Stopped.");
    else if (!beginning) begin(model());
  });
  showHint(canStream());
}

export function showHint(canStream) {
  element("live-start").disabled = !canStream;
  element("live-hint").textContent = canStream
    ? "Frames are sent to this server and not stored."
    : "This model looks ahead, so it cannot run on a live camera: choose a causal model.";
}

export function stopLive() {
  session?.stop("Stopped.");
}

async function begin(model) {
  say("Waiting for the camera ...");
  beginning = true;
  try {
    if (!navigator.mediaDevices) {
      throw new Error("Browsers allow the camera only on localhost or https pages.");
    }
    const camera = await navigator.mediaDevices.getUserMedia({ video: true });
    session = new Session(camera, model);
    await session.start();
  } catch (error) {
    if (session) session.stop("");
    complain(error);
  } finally {
    beginning = false;
  }
}

class Session {
  constructor(camera, model) {
    this.camera = camera;
    this.model = model;
    this.video = element("live-video");
    this.canvas = document.createElement("canvas");
    this.frames = 0;
    this.sent = 0;
    this.waits = [];
  }

  async start() {
    element("live-start").textContent = "Stop";
    this.video.srcObject = this.camera;
    await this.video.play();
    this.socket = new WebSocket(streamAddress());
    this.socket.addEventListener("open", () => {
      this.socket.send(JSON.stringify({ model: this.model, top: 5, api_key: key() }));
    });
    this.socket.addEventListener("message", (event) => this.take(JSON.parse(event.data)));
    this.socket.addEventListener("close", (event) => {
      this.stop(event.reason ? `Ended: ${event.reason}.` : "The stream has ended.");
    });
  }

  take(message) {
    if (message.type === "ready") {
      this.size = message.size_px;
      this.began = performance.now();
      element("live-result").hidden = false;
      say("Live.");
    } else if (message.type === "result") {
      this.show(message);
    } else {
      complain(new Error(message.message));
      if (message.frame === null) return; // the server closes the stream
    }
    this.next();
  }

  // Schedules the next frame at the chosen rate.
  next() {
    const rate = Math.min(60, Math.max(1, Number(element("rate").value) || 12));
    const due = (this.sent || performance.now()) + 1000 / rate;
    this.timer = setTimeout(() => this.send(), Math.max(0, due - performance.now()));
  }

  send() {
    const { videoWidth: width, videoHeight: height } = this.video;
    // The server would shrink larger frames anyway; smaller ones upload faster.
    const scale = Math.min(1, this.size / Math.min(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const pen = this.canvas.getContext("2d");
    pen.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.toBlob(
      (blob) => {
        if (this.socket.readyState !== WebSocket.OPEN) return;
        this.sent = performance.now();
        this.socket.send(blob);
      },
      "image/jpeg",
      QUALITY,
    );
  }

  show(result) {
    this.frames += 1;
    this.waits = [...this.waits.slice(-29), performance.now() - this.sent];
    const wait = this.waits.reduce((sum, value) => sum + value, 0) / this.waits.length;
    const rate = (1000 * this.frames) / (performance.now() - this.began);
    showTop(element("live-top"), result.top);
    // Screen readers announce this text, so it changes only with the class.
    if (result.changed || this.frames === 1) {
      element("live-shown").textContent = result.shown?.name ?? "";
    }
    element("live-facts").textContent =
      `Latency ${wait.toFixed(0)} ms (server ${result.latency_ms.toFixed(0)} ms), ` +
      `${rate.toFixed(1)} frames per second, ${this.frames} frames.`;
  }

  stop(words) {
    if (session !== this) return;
    session = null;
    clearTimeout(this.timer);
    for (const track of this.camera.getTracks()) track.stop();
    this.video.srcObject = null;
    this.socket?.close();
    element("live-start").textContent = "Start the camera";
    if (words && element("error").hidden) say(words);
  }
}
