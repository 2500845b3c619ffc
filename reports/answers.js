// ---- answers: index at once, texts in chunks when wanted
function decoded(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
async function unpack(base64) {
  const bytes = decoded(base64);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Chunks hold columns; a row is put together when it is asked for. Worked examples stand once, in `shots`.
const SIDE = ["score", "outcome", "extracted", "why", "style", "finish", "tokens", "logprob", "chars"];
function rowOf(chunk, i) {
  const at = (name) => chunk[name]?.[i] ?? undefined;
  const tail = at("prompt");
  const side = (role, position) => {
    const found = { output: at("output")[position] ?? "" };
    for (const name of SIDE) found[name] = at(`${role}.${name}`);
    return found;
  };
  return {
    prompt: tail === undefined ? undefined : (chunk.shot[i] ? chunk.shots[chunk.shot[i] - 1] : "") + tail,
    prompt2: at("prompt2"), gold: at("gold"), source: at("source"),
    base: side("base", 0), candidate: side("candidate", 1),
  };
}

const FIRST = 3000; // characters shown of a long text before someone asks for more
const BATCH = 60;
const ORDER = ["lost", "gained", "changed", "same", "dropped"];
const MARK = { lost: "▼", gained: "▲", changed: "◇", same: "=", dropped: "∅" };

class Explorer {
  constructor(index) {
    this.index = index;
    this.chunks = [...document.querySelectorAll("script.chunk")];
    this.cache = new Map();
    this.marking = true;
    this.form = $("filters");
    this.column = (name, i) => index.coded[name].values[index.coded[name].codes[i]];
    this.size = index.anchor.length;
    this.found = [];
    this.drawn = 0;
    this.run = 0;
    const rank = (i) => ORDER.indexOf(this.column("flip", i));
    this.order = Array.from({ length: this.size }, (_, i) => i)
      .sort((a, b) => rank(a) - rank(b) || this.column("type", a).localeCompare(this.column("type", b)) || a - b);
    this.fill();
    this.form.hidden = false;
    this.form.addEventListener("input", () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.filter(true), 120); });
    this.form.addEventListener("reset", () => setTimeout(() => { this.filter(true); }));
    this.form.addEventListener("submit", (event) => event.preventDefault());
    $("more").addEventListener("click", () => this.draw(true));
  }

  fill() {
    const add = (name, value, label) => this.form.elements[name].append(new Option(label, value));
    const by = new Map(settings.comparisons.map((c) => [c.id, c]));
    const present = (name) => [...new Set(this.index.coded[name].values)];
    const here = settings.comparisons.filter((c) => present("comparison").includes(c.id));
    const deciding = here.find((c) => c.tab === articles[0]?.id) ?? here[0];
    for (const id of present("comparison")) {
      const option = new Option(`${by.get(id).candidate} ${t("against")} ${by.get(id).base}`, id, id === deciding?.id, id === deciding?.id);
      this.form.elements.comparison.append(option);
    }
    const flips = present("flip");
    if (flips.includes("lost") || flips.includes("gained")) add("flip", "flips", t("lost and gained"));
    for (const flip of ORDER.filter((f) => flips.includes(f))) add("flip", flip, `${MARK[flip]} ${flip === "same" ? t("did not flip") : t(flip)}`);
    add("flip", "", t("all"));
    const types = present("type").sort();
    add("type", "", t("all"));
    let top = null;
    for (const type of types) {
      const head = type.split("/")[0];
      if (head !== top && type !== head) add("type", head, head);
      top = head;
      add("type", type, type === head ? type : `\u2003${type.slice(head.length + 1)}`);
    }
    for (const name of ["stratum", "task", "view", "cause"]) {
      add(name, "", t("all"));
      const label = { stratum: (x) => x.replaceAll("_", " "), task: (x) => x, view: t, cause: t }[name];
      for (const value of present(name).filter(Boolean).sort()) add(name, value, label(value));
    }
    add("outcome", "", t("all"));
    for (const value of [...new Set([...present("outcome"), ...present("outcome2")])].sort()) add("outcome", value, t(value));
    for (const name of ["comparison", "stratum", "task", "view", "cause", "outcome"]) {
      const select = this.form.elements[name];
      const real = [...select.options].filter((o) => o.value !== "").length;
      select.closest("label").hidden = real < 2;
    }
  }

  choose(comparison) {
    const select = this.form.elements.comparison;
    if ([...select.options].some((o) => o.value === comparison)) { select.value = comparison; this.filter(); }
  }

  // What is filtered stands in the address, so that a view can be sent to someone: #?flip=lost&type=knowledge
  state() {
    const state = new URLSearchParams();
    for (const field of this.form.elements) {
      const usual = field.options ? [...field.options].find((o) => o.defaultSelected) ?? field.options[0] : { value: "" };
      if (field.name && field.value !== usual.value) state.set(field.name, field.value);
    }
    return state;
  }

  async restore(state) {
    this.form.reset();
    await new Promise((done) => setTimeout(done)); // after the reset's own filter
    for (const [name, value] of new URLSearchParams(state)) {
      const field = this.form.elements[name];
      if (field && (!field.options || [...field.options].some((o) => o.value === value))) field.value = value;
    }
    await this.filter();
    $("flips").scrollIntoView({ block: "start" });
  }

  async texts(i) {
    const at = Math.floor(i / this.index.chunk_rows);
    let rows = this.cache.get(at);
    if (!rows) {
      rows = unpack(this.chunks[at].textContent);
      if (this.cache.size >= 48) this.cache.delete(this.cache.keys().next().value);
      this.cache.set(at, rows);
    }
    return rowOf(await rows, i % this.index.chunk_rows);
  }

  matches(i) {
    const want = (name) => this.form.elements[name].value;
    const flip = this.column("flip", i);
    const type = this.column("type", i);
    return this.column("comparison", i) === want("comparison")
      && (want("flip") === "" || flip === want("flip") || (want("flip") === "flips" && (flip === "lost" || flip === "gained")))
      && (want("type") === "" || type === want("type") || type.startsWith(want("type") + "/"))
      && (want("stratum") === "" || this.column("stratum", i) === want("stratum"))
      && (want("task") === "" || this.column("task", i) === want("task"))
      && (want("view") === "" || this.column("view", i) === want("view"))
      && (want("cause") === "" || this.column("cause", i) === want("cause"))
      && (want("outcome") === "" || this.column("outcome", i) === want("outcome") || this.column("outcome2", i) === want("outcome"));
  }

  async filter(remember = false) {
    const run = ++this.run; // a newer filter ends an older search
    if (remember) history.replaceState(null, "", `#?${this.state()}`);
    const text = this.form.elements.text.value.trim().toLowerCase();
    let found = this.order.filter((i) => this.matches(i));
    if (text) {
      const among = new Set(found), hits = new Set();
      $("shown").textContent = t("Searching…");
      for (let at = 0; at < this.chunks.length; at++) {
        const first = at * this.index.chunk_rows, last = Math.min(this.size, first + this.index.chunk_rows);
        for (let i = first; i < last; i++) {
          if (!among.has(i)) continue;
          if (has(await this.texts(i), text) || this.index.anchor[i].toLowerCase().includes(text)) hits.add(i);
          if (run !== this.run) return;
        }
      }
      found = found.filter((i) => hits.has(i));
    }
    if (run !== this.run) return;
    this.found = found;
    this.draw(false);
  }

  draw(more) {
    if (!more) { $("rows").replaceChildren(); this.drawn = 0; }
    const next = this.found.slice(this.drawn, this.drawn + BATCH);
    const nodes = next.map((i) => this.row(i));
    $("rows").append(...nodes);
    if (more && nodes.length) nodes[0].firstChild.focus();
    $("keys").hidden = this.found.length === 0;
    this.drawn += next.length;
    $("shown").textContent = t("{n} of {all} answers", { n: number(this.found.length), all: number(this.size) });
    $("more").hidden = this.drawn >= this.found.length;
    $("more").textContent = t("Show {n} more", { n: number(Math.min(BATCH, this.found.length - this.drawn)) });
  }

  link(i) { return `#${encodeURIComponent(this.index.anchor[i])}@${this.column("comparison", i)}`; }

  row(i) {
    const flip = this.column("flip", i);
    const body = el("div", { class: "body" });
    const pair = el("details", { class: "pair", "data-row": i },
      el("summary", {},
        el("span", { class: `direction ${flip}` }, `${MARK[flip]} ${t(flip)}`),
        el("bdi", { class: "asked", dir: "auto" }, this.index.question[i]),
        el("span", { class: "answers" }, el("bdi", {}, this.index.answer[i]), " → ", el("bdi", {}, this.index.answer2[i]))),
      body);
    pair.addEventListener("toggle", async () => {
      if (!pair.open || body.childNodes.length) return;
      body.append(...this.body(i, await this.texts(i)));
    });
    return pair;
  }

  // j and k: the next and the previous answer. Enter opens it, as on any summary.
  step(by) {
    const rows = [...document.querySelectorAll("#rows > .pair > summary")];
    const at = rows.indexOf(document.activeElement?.closest(".pair")?.firstChild);
    if (at + by >= rows.length && !$("more").hidden) return this.draw(true);
    const next = rows[at < 0 ? 0 : Math.min(rows.length - 1, Math.max(0, at + by))];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
  }

  body(i, row) {
    const names = settings.comparisons.find((c) => c.id === this.column("comparison", i));
    const where = [this.column("task", i), this.column("type", i), t(this.column("view", i)), this.column("decode", i), row.source];
    const head = el("p", {});
    where.filter(Boolean).forEach((text, n) => head.append(n ? " · " : "", el("bdi", {}, text)));
    head.append(" · ", el("a", { href: this.link(i) }, t("link to this item")));
    const prompts = row.prompt2 !== undefined
      ? [fold(t("Prompt of {name}", { name: names.base }), row.prompt), fold(t("Prompt of {name}", { name: names.candidate }), row.prompt2)]
      : row.prompt !== undefined ? [fold(t("Prompt"), row.prompt)] : [];
    const gold = row.gold === undefined ? null : facts([[t("Reference"), row.gold], ...(row.cause ? [[t("Cause"), row.cause]] : [])]);
    return [head, gold, ...prompts, ...sides(names, row, this)].filter(Boolean);
  }

  async open(anchor, comparison) {
    const at = this.order.find((i) => this.index.anchor[i] === anchor && (!comparison || this.column("comparison", i) === comparison));
    if (at === undefined) return false;
    const names = settings.comparisons.find((c) => c.id === this.column("comparison", at));
    showCandidate(names.tab);
    this.form.reset();
    for (const name of ["comparison", "flip", "type"]) this.form.elements[name].value = this.column(name, at);
    await new Promise((done) => setTimeout(done)); // after the reset's own filter
    await this.filter();
    this.found = [at, ...this.found.filter((i) => i !== at)]; // what a link points at comes first
    this.draw(false);
    const node = document.querySelector(`[data-row="${at}"]`);
    node.open = true;
    node.scrollIntoView({ block: "start" });
    node.firstChild.focus({ preventScroll: true });
    return true;
  }
}

function has(row, text) {
  const texts = [row.prompt, row.prompt2, row.gold, row.source];
  for (const s of [row.base, row.candidate]) texts.push(s.output, s.extracted, s.why);
  return texts.some((s) => s !== undefined && s.toLowerCase().includes(text));
}

function marked(text, parts, own) {
  return parts === null ? [text] : parts.filter(([op]) => op === "=" || op === own)
    .map(([op, words]) => (op === "=" ? words : el(op === "-" ? "del" : "ins", {}, words)));
}

// Text nodes only; a long text first shows its beginning.
function block(text, parts = null, own = "=") {
  const pre = el("pre", { dir: "auto", tabindex: "0" });
  if (text.length <= FIRST + 500) { pre.append(...marked(text, parts, own)); return pre; }
  let left = FIRST;
  const beginning = parts?.map(([op, words]) => {
    if (op !== "=" && op !== own) return [op, words];
    const kept = words.slice(0, left);
    left -= kept.length;
    return [op, kept];
  }).filter(([, words]) => words) ?? null;
  pre.append(...marked(text.slice(0, FIRST), beginning, own), "…");
  const all = el("button", { type: "button" }, t("Show all {n} characters", { n: number(text.length) }));
  all.addEventListener("click", () => { pre.replaceChildren(...marked(text, parts, own)); pre.focus(); all.remove(); });
  return el("div", {}, pre, all);
}

function fold(title, text) {
  const details = el("details", {}, el("summary", {}, title));
  details.addEventListener("toggle", () => { if (details.open && details.childNodes.length === 1) details.append(block(text)); });
  return details;
}

function facts(entries) {
  const list = el("dl", { class: "facts" });
  for (const [name, value] of entries) list.append(el("dt", {}, name), el("dd", { dir: "auto" }, value));
  return list;
}

// Both answers with the words marked in which they differ, where they have enough in common to be told apart.
function sides(names, row, explorer) {
  const diff = row.base.output === row.candidate.output ? null : wordDiff(row.base.output, row.candidate.output);
  const draw = () => el("div", { class: "sides" },
    side(names.base, row.base, explorer.marking && diff?.alike ? diff.parts : null, "-"),
    side(names.candidate, row.candidate, explorer.marking && diff?.alike ? diff.parts : null, "+"));
  let both = draw();
  if (diff === null) return [el("p", { class: "quiet" }, t("Both gave the same text.")), both];
  if (!diff.alike) return [el("p", { class: "quiet" }, t("The texts have few words in common: no words are marked.")), both];
  const button = el("button", { type: "button", class: "toggle", "aria-pressed": String(explorer.marking) }, t("Mark the words that differ"));
  button.addEventListener("click", () => {
    explorer.marking = !explorer.marking;
    button.setAttribute("aria-pressed", String(explorer.marking));
    const next = draw();
    both.replaceWith(next);
    both = next;
  });
  return [el("p", { class: "tools" }, button, diff.whole ? null : el("span", { class: "quiet" }, t("Too long to compare word by word: the middle is marked as a whole."))), both];
}

function side(alias, s, parts, own) {
  const known = s.score !== undefined && s.score !== null;
  const verdict = !known ? "odd" : s.score === 1 ? "right" : s.score === 0 ? "wrong" : "odd";
  const label = !known ? t("no score") : s.score === 1 ? `✓ ${t("right")}` : s.score === 0 ? `✕ ${t("wrong")}` : `${t("score")} ${s.score.toFixed(3)}`;
  const meta = [];
  if (s.finish) meta.push(t("finish: {how}", { how: t(s.finish) }));
  if (s.tokens !== undefined) meta.push(t("{n} tokens", { n: number(s.tokens) }));
  if (s.chars !== undefined) meta.push(t("{n} characters", { n: number(s.chars) }));
  if (s.logprob !== undefined) meta.push(t("mean log-probability {x}", { x: s.logprob.toFixed(2).replace("-0.00", "0.00").replace("-", "−") }));
  const entries = [[t("Extracted"), s.extracted ?? t("(nothing)")]];
  if (s.why) entries.push([t("Why"), s.why]);
  return el("div", { class: `side ${verdict}` },
    el("h4", {}, el("bdi", {}, alias), el("span", { class: `badge ${verdict}` }, label),
      s.outcome !== "ok" ? el("span", { class: "badge odd" }, `! ${t(s.outcome)}`) : null,
      s.style ? el("span", { class: "tag" }, t(s.style)) : null),
    facts(entries), block(s.output, parts, own), el("p", { class: "quiet" }, meta.join(" · ")));
}
