/** The page: recordings in, answers out. Begin to read here. */

import { AnswerCard } from "./answer.js";
import { model } from "./api.js";
import { find, h } from "./dom.js";
import { answersCsv, json, save } from "./downloads.js";
import { onFiles } from "./files.js";
import { t, translate, whole } from "./i18n.js";
import { firstParagraph, markdown } from "./markdown.js";
import { setUpRecording } from "./recording.js";

const AT_ONCE = 2; // files that are asked about at the same time
let cards = [];
const queue = [];
let busy = 0;

/** Ask about files; the newest stand first. */
function take(files) {
  if (!files.length) return;
  const abstainBelow = Number(find("abstain").value);
  const fresh = files.map((file) => new AnswerCard(file, abstainBelow, files.length === 1, changed));
  cards = [...fresh, ...cards];
  queue.push(...fresh);
  find("list").prepend(...fresh.map(({ element }) => element));
  changed();
  fresh[0].element.scrollIntoView({ block: "nearest" });
  work();
}

async function work() {
  while (busy < AT_ONCE && queue.length) {
    const card = queue.shift();
    if (!cards.includes(card)) continue; // taken away before its turn
    busy += 1;
    card.ask().finally(() => {
      busy -= 1;
      work();
    });
  }
}

/** Show what depends on all answers; `removed`: a card that is gone. */
function changed(removed) {
  cards = cards.filter((card) => card !== removed);
  find("legend").hidden = cards.length > 0;
  find("save-all").hidden = cards.filter(({ answer }) => answer).length < 2;
}

function setUpSaving() {
  const answered = () => cards.map(({ answer }) => answer).filter(Boolean).reverse();
  const formats = [["JSON", "application/json", json], ["CSV", "text/csv", answersCsv]];
  find("save-all").append(t("answers.save all"), " ", ...formats.map(([format, type, write]) =>
    h("button", { class: "quiet", type: "button", "aria-label": t("save.all of", { format }),
      onclick: () => save(`answers.${format.toLowerCase()}`, type, write(answered())) }, format)));
}

function tell(trouble) {
  find("trouble").textContent = trouble;
  find("trouble").hidden = !trouble;
}

/** What is known of the model: its version, its card, and how it did in its test. */
async function aboutModel() {
  try {
    const { card, synthetic, ...version } = await model();
    find("synthetic").hidden = !synthetic;
    if (!card) return; // a model without one
    find("open-card").textContent = t(version.version ? "card.open" : "card.open.none", version);
    find("open-card").hidden = false;
    find("card-text").replaceChildren(...markdown(card));
    const tested = firstParagraph(card);
    if (tested) find("tested").replaceChildren(t("meaning.tested"), " ", ...tested.childNodes);
    find("tested").append(" ", h("button", { class: "link", type: "button", onclick: openCard }, t("meaning.more")));
  } catch (problem) {
    find("tested").textContent = t("card.failed", { reason: problem.message });
  }
}

const openCard = () => find("card").showModal();

translate();
for (const option of find("abstain").options) {
  if (!option.dataset.t) option.textContent = t("abstain.at least", { share: whole(option.value) });
}
onFiles(find("files"), take);
setUpRecording(take, tell);
setUpSaving();
find("open-card").addEventListener("click", openCard);
find("card").addEventListener("click", ({ target }) => {
  if (target.id === "card" || target.dataset.t === "close") find("card").close();
});
find("page").hidden = false;
await aboutModel();
