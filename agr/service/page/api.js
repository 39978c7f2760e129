/** The service, as the page uses it. Addresses are relative, so that it may live under any path. */

import { find } from "./dom.js";
import { t } from "./i18n.js";

const TRIES = 6; // while the server is busy
let token = ""; // kept as long as the page is open

/** What went wrong, in a sentence for the reader. */
export class Problem extends Error {
  constructor(message, status = 0, wait = 0) {
    super(message);
    this.status = status;
    this.wait = wait; // seconds after which the server may be asked again
  }
}

/** The address of a part of the service; `scheme` is "ws" for a stream. */
export function address(path, scheme = "http") {
  const url = new URL(path, document.baseURI);
  url.protocol = url.protocol.replace("http", scheme);
  return url;
}

/** Stream protocols: a browser can send a token with a WebSocket in no other way. */
export const protocols = () => (token ? ["agr", `bearer.${token}`] : []);

/** What is known of the model. */
export const model = async () => JSON.parse(await (await asked("GET", "v1/model")).text());

/** The picture of what moved the answer to a file, a Blob. */
export const explain = (file, signal) => asked("POST", "v1/explain", file, { signal });

/** The answer to one file, and the model that gave it. `tell` gets "sending" (share), "listening" and "busy" (s). */
export async function predict(file, abstainBelow, tell, signal) {
  const path = `v1/predict?${new URLSearchParams({ abstain_below: abstainBelow, timeline: true })}`;
  const { model: by, answers } = JSON.parse(await (await asked("POST", path, file, { tell, signal })).text());
  if (!answers?.length) throw new Problem(t("problem.empty"));
  return { ...answers[0], model: by };
}

/** Send a request, again while the server is busy, and with a token if it asks for one. */
async function asked(method, path, file, { tell = () => {}, signal } = {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await send(method, path, file, tell, signal);
    } catch (problem) {
      if (problem.status === 401) await askForToken();
      else if (problem.wait && attempt < TRIES) await pause(problem.wait, tell, signal);
      else throw problem;
    }
  }
}

/** One request: XMLHttpRequest, because fetch does not tell how much was sent. */
function send(method, path, file, tell, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, address(path));
    request.responseType = "blob";
    if (token) request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.upload.onprogress = ({ loaded, total }) => tell("sending", loaded / total);
    request.upload.onload = () => tell("listening");
    request.onload = async () => (request.status < 300 ? resolve(request.response) : reject(await problemOf(request)));
    request.onerror = () => reject(new Problem(t("problem.lost")));
    request.onabort = () => reject(signal.reason);
    signal?.throwIfAborted();
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    const form = new FormData();
    if (file) form.append("file", file, file.name);
    request.send(file ? form : null);
  });
}

/** A problem from problem details (RFC 9457). */
async function problemOf(request) {
  const wait = request.status === 429 || request.status === 503 ? Number(request.getResponseHeader("Retry-After")) : 0;
  let said = {};
  try {
    said = JSON.parse(await request.response.text());
  } catch {
    // not from the service itself: its status has to do
  }
  return new Problem(said.detail || said.title || t("problem.status", { status: request.status }), request.status, wait);
}

async function pause(seconds, tell, signal) {
  for (let left = Math.ceil(seconds); left > 0; left -= 1) {
    signal?.throwIfAborted();
    tell("busy", left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

let asking = null; // one dialog, however many requests wait for it

function askForToken() {
  const dialog = find("token");
  asking ??= new Promise((resolve, reject) => {
    dialog.addEventListener("close", () => {
      asking = null;
      token = find("token-text").value;
      if (dialog.returnValue === "given") resolve();
      else reject(new Problem(t("token.title"), 401));
    }, { once: true });
    dialog.returnValue = "";
    dialog.showModal();
  });
  return asking;
}
