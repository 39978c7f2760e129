/** Answers as files, made in the browser. Segments are written as `agr predict --timeline` writes them. */

import { h } from "./dom.js";

const SEGMENT_COLUMNS = ["path", "start", "end", "label", "probability"];
const ANSWER_COLUMNS = [
  "path", "label", "female", "male", "share_female", "share_male", "speech_seconds", "warning", "error", "model", "version",
];

/** One object, or a list of them. */
export const json = (answers) => `${JSON.stringify(answers.length === 1 ? answers[0] : answers, null, 2)}\n`;

/** A row for each segment. */
export const segmentsCsv = ({ path, segments }) =>
  table(SEGMENT_COLUMNS, segments.map((segment) => ({ path, ...segment })));

/** A row for each answer. */
export function answersCsv(answers) {
  return table(ANSWER_COLUMNS, answers.map(({ probability, shares, model, ...answer }) => ({
    ...answer,
    ...probability,
    share_female: shares?.female,
    share_male: shares?.male,
    model: model?.name,
    version: model?.version,
  })));
}

/** Praat's long text format: one interval tier without gaps. */
export function textGrid({ segments, seconds }) {
  const length = Object.values(seconds).reduce((sum, value) => sum + value, 0);
  const intervals = [];
  let at = 0;
  for (const { start, end, label } of segments) {
    if (start > at) intervals.push([at, start, ""]);
    at = Math.min(end, length);
    intervals.push([start, at, label]);
  }
  if (at < length || !intervals.length) intervals.push([at, length, ""]);
  const end = length.toFixed(6);
  const lines = [
    'File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", `xmax = ${end}`, "tiers? <exists>", "size = 1",
    "item []:", "    item [1]:", '        class = "IntervalTier"', '        name = "voice"', "        xmin = 0",
    `        xmax = ${end}`, `        intervals: size = ${intervals.length}`,
    ...intervals.flatMap(([from, to, label], i) => [
      `        intervals [${i + 1}]:`, `            xmin = ${from.toFixed(6)}`, `            xmax = ${to.toFixed(6)}`,
      `            text = "${label}"`,
    ]),
  ];
  return `${lines.join("\n")}\n`;
}

/** Let the reader save a text. */
export function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function table(columns, rows) {
  const cell = (value) => (/[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));
  return [columns, ...rows.map((row) => columns.map((name) => row[name]))]
    .map((row) => `${row.map(cell).join(",")}\n`)
    .join("");
}
