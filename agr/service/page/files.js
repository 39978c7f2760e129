/** Files that are chosen, dropped or pasted, also whole folders. */

/** Call `take` with the files of each choice, drop and paste. */
export function onFiles(input, take) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = ""; // so that the same file can be chosen again
  });
  let inside = 0; // elements that something is dragged over
  const mark = (change) => {
    inside = Math.max(0, inside + change);
    document.body.classList.toggle("dragging", inside > 0);
  };
  addEventListener("dragenter", () => mark(1));
  addEventListener("dragleave", () => mark(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-inside);
    take(await dropped(event.dataTransfer));
  });
  addEventListener("paste", (event) => take([...event.clipboardData.files]));
}

/** The files of a drop; the entries have to be taken before anything is awaited. */
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files];
  return (await Promise.all(entries.map(within))).flat();
}

async function within(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at most
    if (!some.length) break;
    found.push(...some);
  }
  const visible = found.filter(({ name }) => !name.startsWith(".")).sort((a, b) => a.name.localeCompare(b.name));
  return (await Promise.all(visible.map(within))).flat();
}
