// The summary needs none of this. Everything that came out of a model is set with textContent, never as markup.
// The files of the script are joined in one function (report/html.py): report, diff, answers, start.
const $ = (id) => document.getElementById(id);
const settings = JSON.parse($("settings").textContent);
const words = new Map(Object.entries(settings.words)); // a Map: a task may be called "constructor"
const t = (text, values = {}) =>
  (words.get(text) ?? text).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const number = (n) => n.toLocaleString("en-US");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  for (const child of children) if (child !== null && child !== undefined) node.append(child);
  return node;
}

// ---- theme: follows the system until someone chooses
const theme = $("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");
const remember = (value) => { try { localStorage.setItem("forgetbench-theme", value); } catch { /* file:// may forbid it */ } };
function isDark() { return (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark"; }
function nameTheme() { theme.textContent = isDark() ? t("Light") : t("Dark"); }
try {
  const saved = localStorage.getItem("forgetbench-theme");
  if (saved === "dark" || saved === "light") document.documentElement.dataset.theme = saved;
} catch { /* none saved */ }
theme.hidden = false;
nameTheme();
dark.addEventListener("change", nameTheme);
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  remember(document.documentElement.dataset.theme);
  nameTheme();
});

// ---- candidates as tabs (links to sections when scripts are off)
const tabs = [...document.querySelectorAll(".tabs a")];
const articles = [...document.querySelectorAll("article.candidate")];
function showCandidate(id) {
  if (!articles.some((a) => a.id === id)) return;
  for (const article of articles) article.hidden = tabs.length > 0 && article.id !== id;
  for (const tab of tabs) {
    if (tab.dataset.tab === id) tab.setAttribute("aria-current", "true");
    else tab.removeAttribute("aria-current");
  }
}
for (const tab of tabs) {
  tab.addEventListener("click", (event) => {
    event.preventDefault();
    showCandidate(tab.dataset.tab);
    const first = settings.comparisons.find((c) => c.tab === tab.dataset.tab);
    if (first && explorer) explorer.choose(first.id);
    history.replaceState(null, "", "#" + tab.dataset.tab);
  });
}
if (articles.length) showCandidate(articles[0].id);

// ---- sortable tables: the order as written is the third state. Sorted, a child row bears its parent's name.
for (const table of document.querySelectorAll("table.sortable")) {
  const original = [...table.tBodies].map((body) => [...body.rows]);
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((cell, column) => {
    if (cell.tagName !== "TH") return;
    const button = el("button", { type: "button" });
    button.append(...cell.childNodes);
    cell.append(button);
    cell.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const next = { none: "descending", descending: "ascending", ascending: "none" }[cell.getAttribute("aria-sort")];
      for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
      cell.setAttribute("aria-sort", next);
      table.classList.toggle("flat", next !== "none");
      [...table.tBodies].forEach((body, i) => body.append(...(next === "none" ? original[i] : sorted(original[i], column, next))));
    });
  });
}
function sorted(rows, column, order) {
  const part = rows.filter((row) => row.classList.contains("part")); // names the part: stays on top
  const groups = [];
  for (const row of rows) {
    if (row.classList.contains("why")) groups[groups.length - 1].push(row); // belongs to the row above it
    else if (!part.includes(row)) groups.push([row]);
  }
  const value = ([row]) => {
    const cell = row.cells[column];
    if (cell.dataset.value === undefined) return cell.textContent.trim();
    const figure = Number.parseFloat(cell.dataset.value);
    return Number.isNaN(figure) ? null : figure;
  };
  const sign = order === "ascending" ? 1 : -1;
  groups.sort((a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null); // unknown goes last either way
    return sign * (typeof x === "number" ? x - y : x.localeCompare(y));
  });
  return [...part, ...groups.flat()];
}
