/** The record button, the level meter beside it, and the running answer. */

import { bar, certainty } from "./answer.js";
import { announce, find } from "./dom.js";
import { clock, t } from "./i18n.js";
import { record } from "./recorder.js";

const LONGEST = 300; // seconds
const MUTED = 20; // silent tenths of a second after which one is told
const BAR = 4; // CSS pixels from one bar of the meter to the next

/** Make the record button work; `take` gets the recording, `tell` what went wrong. */
export function setUpRecording(take, tell) {
  let running = null; // while it records
  let starting = false;
  const button = find("record");

  async function start() {
    tell("");
    if (!navigator.mediaDevices) return tell(t("record.insecure"));
    try {
      running = await record(meter(() => running?.seconds() ?? 0, () => stop(true)));
    } catch (error) {
      const known = { NotAllowedError: "record.refused", NotFoundError: "record.missing" }[error.name];
      return tell(t(known ?? "record.failed", { reason: error.message }));
    }
    show(true);
    announce(t("record.started"));
  }

  async function stop(full = false) {
    const recording = running;
    running = null;
    show(false);
    if (full) tell(t("record.longest", { time: clock(LONGEST) }));
    const time = new Date().toLocaleTimeString([], { hour12: false }).replaceAll(":", "-");
    take([await recording.stop(t("record.name", { time }))]);
  }

  button.addEventListener("click", async () => {
    if (starting) return;
    starting = true;
    await (running ? stop() : start());
    starting = false;
  });
  show(false);
}

function show(on) {
  find("recorder").classList.toggle("on", on);
  find("record-label").textContent = t(on ? "record.stop" : "record.start");
  find("record-hint").textContent = t(on ? "record.hint.busy" : "record.hint");
  find("live").hidden = !on;
}

/** What is heard while it records, as `record` wants it. */
function meter(seconds, full) {
  const levels = [];
  const soFar = find("so-far");
  let silent = 0; // tenths of a second
  let last = "";
  soFar.textContent = t("record.listening");
  find("so-far-bar").replaceChildren();
  return {
    level(value, nothing) {
      levels.push(value);
      draw(levels);
      find("clock").textContent = clock(seconds());
      find("record").style.setProperty("--level", value.toFixed(3));
      silent = nothing ? silent + 1 : 0;
      if (silent === MUTED) soFar.textContent = t("record.silent");
      if (seconds() >= LONGEST) full();
    },
    answer({ label, probability }) {
      if (!probability) return;
      soFar.textContent = t("record.so far", { label: `${t(`label.${label}`)}. ${certainty(probability)}` });
      find("so-far-bar").replaceChildren(bar(probability, "voice"));
      if (label !== last) announce(t("record.so far", { label: t(`label.${label}`) }));
      last = label;
    },
    noStream() {
      soFar.textContent = t("record.no stream");
    },
  };
}

/** The last levels, newest on the right. */
function draw(levels) {
  const canvas = find("levels");
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  const ratio = devicePixelRatio;
  if (canvas.width !== Math.round(width * ratio)) [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = getComputedStyle(canvas).color;
  pen.lineWidth = 2;
  pen.lineCap = "round";
  pen.beginPath();
  levels.slice(-Math.floor(width / BAR)).reverse().forEach((level, age) => {
    const half = Math.max(0.5, (level * (height - 4)) / 2);
    pen.moveTo(width - BAR / 2 - age * BAR, height / 2 - half);
    pen.lineTo(width - BAR / 2 - age * BAR, height / 2 + half);
  });
  pen.stroke();
}
