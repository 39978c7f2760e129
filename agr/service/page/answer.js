/** One recording and its answer: asked for, shown, explained, heard again, saved. */

import { explain, predict } from "./api.js";
import { announce, h } from "./dom.js";
import { json, save, segmentsCsv, textGrid } from "./downloads.js";
import { clock, decimal, percent, t, whole } from "./i18n.js";
import { Player } from "./player.js";

const CERTAINTIES = [0.97, 0.9, 0.75, 0.6, 0]; // a text for each, from the least probability that it is used for
const TICK = 1000; // milliseconds between two looks at the clock while one waits

/** How sure the model is, in words. */
export function certainty(probability) {
  const most = Math.max(...Object.values(probability));
  return t(`sure.${CERTAINTIES.find((least) => most >= least)}`, { share: percent(most) });
}

/** A bar of two shares with both in words; women on the left. */
export function bar({ female, male }, kind, share = percent) {
  const women100 = Math.round((100 * female) / (female + male));  // and the rest is men's: together 100 %
  const sides = Object.entries({ female: [female, women100], male: [male, 100 - women100] }).map(([label, [value, hundredths]]) => {
    const side = h("span", { class: label });
    side.style.flexGrow = value;
    return [side, t(`side.${label}`, { share: share(hundredths / 100) })];
  });
  const [women, men] = sides.map(([, words]) => words);
  return h("div", { class: `shares ${kind}` },
    h("div", { class: "track", role: "img", "aria-label": t(`bar.${kind}`, { female: women, male: men }) },
      ...sides.map(([side]) => side)),
    h("div", { class: "ends", "aria-hidden": "true" }, h("span", {}, women), h("span", {}, men)));
}

/** A card in the list of answers. */
export class AnswerCard {
  /** file: what was given. alone: whether it came alone, so that its explanation is shown at once. */
  constructor(file, abstainBelow, alone, changed) {
    Object.assign(this, { file, abstainBelow, alone, changed });
    this.answer = null;
    this.stop = new AbortController();
    this.body = h("div", {});
    this.element = h("li", { class: "answer" },
      h("div", { class: "bar" }, h("p", { class: "name" }, file.name),
        h("button", { class: "remove", type: "button", "aria-label": t("remove", { path: file.name }),
          onclick: () => this.remove() }, "×")),
      this.body);
    this.waiting(t("wait.queue"));
  }

  /** Ask the service, and show what it says. */
  async ask() {
    const begun = Date.now();
    let ticking;
    const tell = (stage, value) => {
      clearInterval(ticking);
      if (stage === "sending") this.waiting(t("wait.sending", { share: whole(value) }));
      if (stage === "busy") this.waiting(t("wait.busy", { count: value }));
      if (stage !== "listening") return;
      const tick = () => this.waiting(t("wait.listening", { time: clock((Date.now() - begun) / 1000) }));
      tick();
      ticking = setInterval(tick, TICK);
    };
    try {
      this.answer = await predict(this.file, this.abstainBelow, tell, this.stop.signal);
      this.show();
    } catch (problem) {
      if (!this.stop.signal.aborted) this.failed(problem.message, true);
    } finally {
      clearInterval(ticking);
      this.changed();
    }
  }

  waiting(text) {
    this.body.replaceChildren(h("p", { class: "waiting" }, h("span", { class: "spinner", "aria-hidden": "true" }), text));
  }

  failed(reason, again) {
    const retry = again && h("button", { class: "quiet", type: "button", onclick: () => this.ask() }, t("retry"));
    this.body.replaceChildren(h("h3", { class: "error" }, t("label.error")), h("p", {}, reason), ...(retry ? [retry] : []));
    announce(t("announced.error", { path: this.file.name, reason }));
  }

  show() {
    const { answer, file } = this;
    if (answer.error) return this.failed(answer.error, false);
    const { label, probability, shares, segments = [], seconds = {}, warning } = answer;
    const length = Object.values(seconds).reduce((sum, value) => sum + value, 0);
    this.player = new Player(file, segments, length);
    const words = this.words();
    this.body.replaceChildren(...[
      h("h3", { class: label.replace(" ", "-") }, t(`label.${label}`)),
      h("p", { class: "sure" }, words),
      probability && (shares ? bar(shares, "shares", whole) : bar(probability, "voice")),
      warning && h("p", { class: "notice" }, warning),
      this.player.element,
      probability && this.why(),
      segments.length > 0 && this.when(),
      this.foot(),
    ].filter(Boolean));
    announce(t("announced", { path: file.name, label: t(`label.${label}`), sure: words }));
  }

  /** What stands below the answer. */
  words() {
    const { label, probability } = this.answer;
    if (label === "female" || label === "male") return certainty(probability);
    if (label !== "unsure") return t(`explained.${label}`);
    const likelier = probability.female > probability.male ? "female" : "male";
    return t("explained.unsure", { share: whole(this.abstainBelow), label: t(`phrase.${likelier}`) });
  }

  /** The picture of what moved the answer, asked for when it is opened. */
  why() {
    const { file, answer, stop } = this;
    const place = h("div", {}, h("p", { class: "waiting" }, h("span", { class: "spinner", "aria-hidden": "true" }),
      t("why.wait")));
    const draw = async () => {
      try {
        this.picture = URL.createObjectURL(await explain(file, stop.signal));
      } catch (problem) {
        if (!stop.signal.aborted) place.replaceChildren(h("p", { class: "error" }, problem.message));
        return;
      }
      const alt = t("why.alt", { path: file.name, label: t(`label.${answer.label}`) });
      place.replaceChildren(
        h("div", { class: "scroll picture", tabindex: 0, role: "region", "aria-label": t("why") },
          h("img", { src: this.picture, alt })),
        h("p", { class: "note" }, t("why.about"), " ",
          h("a", { href: this.picture, target: "_blank", rel: "noopener" }, t("why.open"))));
    };
    const details = h("details", {}, h("summary", {}, t("why")), place);
    details.addEventListener("toggle", draw, { once: true });
    details.open = this.alone;
    return details;
  }

  /** Who speaks when, as a table that plays. */
  when() {
    const { segments, seconds } = this.answer;
    const row = ({ start, end, label, probability }) => h("tr", {},
      h("td", {}, h("button", { class: "link", type: "button", "aria-label": t("when.play", { time: clock(start, true) }),
        onclick: () => this.player.play(start) }, clock(start, true))),
      h("td", {}, clock(end, true)),
      h("td", {}, h("span", { class: `dot ${label}`, "aria-hidden": "true" }), t(`label.${label}`)),
      h("td", {}, percent(probability)));
    const head = ["from", "to", "who", "sure"].map((name) => h("th", { scope: "col" }, t(`when.${name}`)));
    const sums = { female: clock(seconds.female, true), male: clock(seconds.male, true), none: clock(seconds["no speech"], true) };
    const details = h("details", {}, h("summary", {}, t("when")), h("p", { class: "note" }, t("when.sums", sums)));
    details.addEventListener("toggle", () => details.append(h("div", { class: "scroll rows", tabindex: 0, role: "region",
      "aria-label": t("when") }, h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, ...segments.map(row))))),
    { once: true });
    return details;
  }

  /** What it can be saved as, and which model answered. */
  foot() {
    const { answer } = this;
    const { path, segments, speech_seconds: speech, model } = answer;
    const formats = [["JSON", "json", "application/json", () => json([answer])]];
    if (segments) {
      formats.push(["CSV", "csv", "text/csv", () => segmentsCsv(answer)]);
      formats.push(["TextGrid", "TextGrid", "text/plain", () => textGrid(answer)]);
    }
    const stem = path.replace(/.*[/\\]/, "").replace(/\.[^.]*$/, "") || "recording";
    const buttons = formats.map(([format, ending, type, write]) => h("button", { class: "quiet", type: "button",
      "aria-label": t("save.of", { path, format }), onclick: () => save(`${stem}.${ending}`, type, write()) }, format));
    const facts = [t("speech", { seconds: decimal(speech) }), t(model.version ? "version" : "version.none", model)];
    return h("footer", {}, h("p", { class: "note" }, facts.join(" · ")), h("p", { class: "save" }, t("save"), " ", ...buttons));
  }

  remove() {
    this.stop.abort();
    this.player?.close();
    if (this.picture) URL.revokeObjectURL(this.picture);
    this.element.remove();
    this.changed(this);
  }
}
