/**
 * Hear a recording again: a button, and a strip that shows its loudness and who speaks when.
 * The strip plays from where it is clicked; with the keyboard it is a slider. Women are marked on its upper edge, men on
 * its lower one, so that it can be read without colours.
 */

import { h, s } from "./dom.js";
import { clock, t } from "./i18n.js";

const HEIGHT = 64; // of the strip, in CSS pixels
const BAR = 4; // CSS pixels from one bar of loudness to the next
const LONG = 60; // seconds: from here on one can zoom
const DEEPEST = 64; // times
const DECODED = 16 * 2 ** 20; // bytes: the loudness of larger files is not shown
const PEAKS_PER_SECOND = 100;
let playing = null; // one recording at a time

/** A player of `file`, of so many seconds if that is known, with segments [{start, end, label, probability}]. */
export class Player {
  constructor(file, segments = [], seconds = 0) {
    this.name = file.name;
    this.segments = segments;
    this.seconds = seconds;
    this.peaks = null; // the loudest sample of each hundredth of a second, 0..1
    this.zoom = 1;
    this.audio = new Audio();
    this.build();
    this.listen();
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
    this.measure(file);
  }

  build() {
    this.button = h("button", { class: "play", type: "button", onclick: () => this.toggle() },
      s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" },
        s("path", { class: "idle", d: "M8 5v14l11-7z" }), s("path", { class: "busy", d: "M7 5h4v14H7zM13 5h4v14h-4z" })));
    this.drawing = s("svg", { preserveAspectRatio: "none", "aria-hidden": "true" });
    this.head = h("div", { class: "head" });
    this.strip = h("div", { class: "strip", role: "slider", tabindex: 0, "aria-valuemin": 0 }, this.drawing, this.head);
    this.strip.setAttribute("aria-label", t("position", { path: this.name }));
    this.scroll = h("div", { class: "scroll" }, this.strip);
    this.time = h("span", { class: "time" });
    this.zooms = h("span", { class: "zooms" }, ...[["zoom.out", 0.5, "−"], ["zoom.in", 2, "+"]].map(([name, by, sign]) =>
      h("button", { class: "quiet", type: "button", "aria-label": t(name), onclick: () => this.zoomBy(by) }, sign)));
    this.note = h("p", { class: "note", hidden: true }, t("unplayable"));
    this.element = h("div", { class: "player" }, this.button, this.scroll,
      h("p", { class: "under" }, this.time, this.zooms), this.note);
  }

  listen() {
    const { audio, strip } = this;
    audio.onloadedmetadata = () => {
      if (!this.seconds && Number.isFinite(audio.duration)) this.seconds = audio.duration;
      this.draw();
    };
    audio.onplay = audio.onpause = audio.onseeked = audio.onended = () => this.show();
    audio.ontimeupdate = () => audio.paused && this.show();
    audio.onerror = () => {
      this.button.hidden = true;
      this.note.hidden = false;
    };
    strip.onpointerdown = (event) => {
      const { left, width } = strip.getBoundingClientRect();
      this.play(((event.clientX - left) / width) * this.seconds);
    };
    strip.onkeydown = (event) => this.pressed(event);
    new ResizeObserver(() => this.draw()).observe(this.scroll);
  }

  /** Play from a time in seconds. */
  play(from) {
    this.seek(from);
    if (playing !== this) playing?.audio.pause();
    playing = this;
    this.audio.play().catch(() => {}); // a file that cannot be played has said so already
  }

  seek(to) {
    this.audio.currentTime = Math.max(0, Math.min(to, this.seconds));
    this.show();
  }

  toggle() {
    if (!this.audio.paused) this.audio.pause();
    else this.play(this.audio.ended ? 0 : this.audio.currentTime);
  }

  pressed(event) {
    const now = this.audio.currentTime;
    const step = this.seconds > LONG ? 5 : 0.5;
    const starts = this.segments.map(({ start }) => start);
    const moves = {
      ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step,
      PageDown: starts.find((start) => start > now + 0.05) ?? this.seconds,
      PageUp: starts.findLast((start) => start < now - 0.05) ?? 0,
      Home: 0, End: this.seconds,
    };
    if (event.key in moves) this.seek(moves[event.key]);
    else if (event.key === " " || event.key === "Enter") this.toggle();
    else return;
    event.preventDefault();
  }

  zoomBy(factor) {
    const middle = (this.scroll.scrollLeft + this.scroll.clientWidth / 2) / this.strip.clientWidth;
    this.zoom = Math.max(1, Math.min(DEEPEST, this.zoom * factor));
    this.draw();
    this.scroll.scrollLeft = middle * this.strip.clientWidth - this.scroll.clientWidth / 2;
  }

  /** Show where it is and whether it plays. */
  show() {
    const { audio, seconds } = this;
    const at = Math.min(audio.currentTime, seconds);
    const spoken = this.segments.find(({ start, end }) => start <= at && at < end);
    const values = { time: clock(at, seconds < 10), seconds: clock(seconds, seconds < 10) };
    this.head.style.left = `${seconds ? (100 * at) / seconds : 0}%`;
    this.time.textContent = seconds ? `${values.time} / ${values.seconds}` : "";
    this.zooms.hidden = seconds < LONG;
    this.button.setAttribute("aria-label", t(audio.paused ? "play" : "pause", { path: this.name }));
    this.button.classList.toggle("on", !audio.paused);
    this.strip.setAttribute("aria-valuemax", seconds.toFixed(2));
    this.strip.setAttribute("aria-valuenow", at.toFixed(2));
    const label = spoken ? t(`phrase.${spoken.label}`) : t("position.none");
    this.strip.setAttribute("aria-valuetext", t("position.at", { ...values, label }));
    if (!audio.paused) requestAnimationFrame(() => this.show());
  }

  /** Take the peaks, where the browser can decode the file. */
  async measure(file) {
    if (file.size > DECODED) return;
    try {
      const context = new OfflineAudioContext(1, 1, 8000);
      const decoded = await context.decodeAudioData(await file.arrayBuffer());
      const samples = decoded.getChannelData(0);
      const size = decoded.sampleRate / PEAKS_PER_SECOND;
      this.peaks = new Float32Array(Math.ceil(samples.length / size));
      samples.forEach((value, i) => {
        const at = Math.floor(i / size);
        this.peaks[at] = Math.max(this.peaks[at], Math.abs(value));
      });
      this.seconds ||= decoded.duration;
      this.draw();
    } catch {
      // the strip then shows segments alone
    }
  }

  draw() {
    const width = this.scroll.clientWidth * this.zoom;
    if (!width || !this.seconds) return;
    this.strip.style.width = `${width}px`;
    this.drawing.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const x = width / this.seconds;
    const marks = this.segments.flatMap(({ start, end, label, probability }) => {
      const place = { x: start * x, width: Math.max((end - start) * x, 1), class: label };
      const edge = label === "female" ? 0 : HEIGHT - 3;
      return [s("rect", { ...place, height: HEIGHT, opacity: (2 * probability - 1).toFixed(2) }),
        s("rect", { ...place, y: edge, height: 3 })];
    });
    this.drawing.replaceChildren(...marks, ...this.bars(width));
    this.show();
  }

  /** Paths of bars, one for each kind of speech. */
  bars(width) {
    if (!this.peaks) return [];
    const loudest = Math.max(...this.peaks.length ? [this.peaks.reduce((a, b) => Math.max(a, b), 0)] : [0], 0.01);
    const paths = { female: "", male: "", none: "" };
    let next = 0; // the first segment that may not be over
    for (let x = BAR / 2; x < width; x += BAR) {
      const [from, to] = [x - BAR / 2, x + BAR / 2].map((edge) => (edge / width) * this.seconds);
      const peaks = this.peaks.subarray(from * PEAKS_PER_SECOND, Math.ceil(to * PEAKS_PER_SECOND));
      const half = Math.max(1, (peaks.reduce((a, b) => Math.max(a, b), 0) / loudest) * (HEIGHT / 2 - 8));
      while (next < this.segments.length && this.segments[next].end < (from + to) / 2) next += 1;
      const segment = this.segments[next];
      const kind = segment && segment.start <= (from + to) / 2 ? segment.label : "none";
      paths[kind] += `M${x} ${HEIGHT / 2 - half}V${HEIGHT / 2 + half}`;
    }
    return Object.entries(paths).map(([kind, d]) => s("path", { d, class: `wave ${kind}` }));
  }

  close() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    URL.revokeObjectURL(this.url);
  }
}
