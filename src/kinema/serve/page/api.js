// Requests to the server: relative URLs, the API key if needed, errors with the server's message.

const KEY = "kinema-api-key";

export class ServerError extends Error {
  constructor(status, answer) {
    super(answer?.message ?? `The server answered ${status}.`);
    this.status = status;
    this.code = answer?.error;
  }
}

export function key() {
  return sessionStorage.getItem(KEY);
}

export function setKey(value) {
  sessionStorage.setItem(KEY, value);
}

function headers() {
  return key() ? { "X-API-Key": key() } : {};
}

export async function ask(address, method = "GET") {
  const answer = await fetch(address, { method, headers: headers() });
  const document = await answer.json().catch(() => null);
  if (!answer.ok) throw new ServerError(answer.status, document);
  return document;
}

// XMLHttpRequest, because fetch reports no upload progress. If the signal is aborted, the promise
// rejects with its reason.
export function upload(address, fields, onProgress, signal) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value !== null && value !== "") form.append(name, value);
  }
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable) onProgress(event.loaded / event.total);
    });
    request.addEventListener("load", () => {
      const ok = request.status >= 200 && request.status < 300;
      if (ok) resolve(request.response);
      else reject(new ServerError(request.status, request.response));
    });
    request.addEventListener("error", () => reject(new Error("The server cannot be reached.")));
    signal?.addEventListener("abort", () => {
      request.abort();
      reject(signal.reason);
    });
    request.send(form);
  });
}

export function streamAddress() {
  const address = new URL("v1/stream", document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address;
}
