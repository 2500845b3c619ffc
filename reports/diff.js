// ---- word diff: Myers (1986), "An O(ND) Difference Algorithm and Its Variations", on words, spaces and signs.
// Bounded: beyond MOST_EDITS the part between what both begin and end with is one deletion and one insertion.
const MOST_EDITS = 600, MOST_WORDS = 12_000;
const ENOUGH = 0.2; // share of the longer text that both have, below which marks would colour everything
const WORDS = /\s+|[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}]|[\p{L}\p{N}\p{M}_]+|[^]/gu;

function wordDiff(before, after) {
  const a = before.match(WORDS) ?? [], b = after.match(WORDS) ?? [];
  let start = 0, end = 0;
  const shorter = Math.min(a.length, b.length);
  while (start < shorter && a[start] === b[start]) start++;
  while (end < shorter - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  const left = a.slice(start, a.length - end), right = b.slice(start, b.length - end);
  const middle = left.length + right.length <= MOST_WORDS ? edits(left, right) : null;
  const rough = [["-", left.join("")], ["+", right.join("")]];
  const parts = joined([["=", a.slice(0, start).join("")], ...(middle ?? rough), ["=", a.slice(a.length - end).join("")]]);
  const letters = (text) => text.replace(/\s+/g, "").length;
  const common = parts.reduce((sum, [op, text]) => sum + (op === "=" ? letters(text) : 0), 0);
  return { parts, whole: middle !== null, alike: common >= ENOUGH * Math.max(1, letters(before), letters(after)) };
}

// The shortest list of [op, word] that makes b of a, or null when it would be longer than MOST_EDITS.
function edits(a, b) {
  const most = Math.min(MOST_EDITS, a.length + b.length);
  const reach = new Int32Array(2 * most + 3); // furthest x on each diagonal k, at k + most + 1
  const trace = [];
  const mid = most + 1;
  for (let d = 0; d <= most; d++) {
    trace.push(reach.slice(mid - d - 1, mid + d + 2)); // as it was before this round
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[mid + k - 1] < reach[mid + k + 1]);
      let x = down ? reach[mid + k + 1] : reach[mid + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x++;
      reach[mid + k] = x;
      if (x >= a.length && x - k >= b.length) return walk(trace, a, b, d);
    }
  }
  return null;
}

function walk(trace, a, b, last) {
  const found = [];
  let x = a.length, y = b.length;
  for (let d = last; d > 0; d--) {
    const old = trace[d], at = (k) => old[k + d + 1];
    const k = x - y;
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const from = down ? k + 1 : k - 1, x0 = at(from), y0 = x0 - from;
    while (x > x0 + (down ? 0 : 1) && y > y0 + (down ? 1 : 0)) { found.push(["=", a[--x]]); y--; }
    if (down) found.push(["+", b[--y]]);
    else found.push(["-", a[--x]]);
  }
  while (x > 0) { found.push(["=", a[--x]]); y--; }
  return found.reverse();
}

// Neighbours of one kind become one; a space between two changed words is changed with them.
function joined(parts) {
  const kept = parts.filter(([, text]) => text !== "");
  const out = [];
  let gone = "", come = "";
  const flush = () => {
    if (gone) out.push(["-", gone]);
    if (come) out.push(["+", come]);
    gone = come = "";
  };
  kept.forEach(([op, text], i) => {
    if (op === "-") gone += text;
    else if (op === "+") come += text;
    else if (gone && come && /^\s+$/.test(text) && kept[i + 1] && kept[i + 1][0] !== "=") { gone += text; come += text; }
    else {
      flush();
      if (out.length && out[out.length - 1][0] === "=") out[out.length - 1][1] += text;
      else out.push(["=", text]);
    }
  });
  flush();
  return out;
}
