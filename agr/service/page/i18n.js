/**
 * Texts and numbers in the reader's language. To add one, write locales/xx.json and its code in LANGUAGES.
 * A text that depends on a number is an object by plural category ("one", "other"), chosen by {count}.
 */

const LANGUAGES = ["en"]; // the first is taken if the reader asks for none of them
const asked = navigator.languages.map((name) => name.split("-")[0]);
const language = asked.find((name) => LANGUAGES.includes(name)) ?? LANGUAGES[0];
const plural = new Intl.PluralRules(language);
const percents = new Intl.NumberFormat(language, { style: "percent" });
const decimals = new Intl.NumberFormat(language, { maximumFractionDigits: 1 });
const response = await fetch(new URL(`locales/${language}.json`, import.meta.url));
const texts = await response.json();

/** The text of this name, with {values} filled in; the name itself if there is none. */
export function t(name, values = {}) {
  const text = texts[name] ?? name;
  const chosen = typeof text === "string" ? text : (text[plural.select(values.count)] ?? text.other);
  return chosen.replace(/\{(\w+)\}/g, (whole, key) => values[key] ?? whole);
}

/** A share as a percentage, never rounded to certainty. */
export const percent = (share) => percents.format(share > 0.5 ? Math.min(share, 0.99) : Math.max(share, 0.01));

/** A share of a whole, which may be all of it or none. */
export const whole = (share) => percents.format(share);

/** A number with at most one decimal. */
export const decimal = (value) => decimals.format(value);

/** Seconds as 1:02:03, 2:03 or 0:03; with `tenths` as 0:03.4. */
export function clock(seconds, tenths = false) {
  const all = tenths ? Math.round(seconds * 10) / 10 : Math.floor(seconds);
  const [hours, minutes] = [Math.floor(all / 3600), Math.floor(all / 60) % 60];
  const rest = (all % 60).toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/** Fill in the page's texts. */
export function translate() {
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", t(element.dataset.label));
  }
}
