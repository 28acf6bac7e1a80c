// Every word that is drawn, with the box of each line it stands on: [text, left, top, right, bottom] in CSS pixels.
// Runs in a world of its own: the page's scripts cannot change what is called here.
(() => {
  const MOST = 200000;
  const found = [];
  const skipped = new Set(["SCRIPT", "STYLE", "TEMPLATE", "TITLE", "HEAD", "OPTION"]);
  const range = document.createRange();

  const visible = (element) =>
    element.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true, contentVisibilityAuto: true });

  const add = (text, box) => {
    if (box.width >= 1 && box.height >= 1) {
      found.push([text, box.left + scrollX, box.top + scrollY, box.right + scrollX, box.bottom + scrollY]);
    }
  };

  // A word without blanks may be broken over lines (Chinese, long links): one entry a line.
  const addWord = (node, start, end) => {
    range.setStart(node, start);
    range.setEnd(node, end);
    const boxes = Array.from(range.getClientRects()).filter((box) => box.width > 0);
    if (boxes.length <= 1) {
      if (boxes.length) add(node.data.slice(start, end), boxes[0]);
      return;
    }
    let text = "", line = null;
    for (let at = start; at < end; at++) {
      range.setStart(node, at);
      range.setEnd(node, at + 1);
      const box = range.getBoundingClientRect();
      if (line && Math.abs(box.top - line.top) > line.height / 2) {
        add(text, line);
        text = ""; line = null;
      }
      text += node.data[at];
      const left = line ? Math.min(line.left, box.left) : box.left;
      const right = line ? Math.max(line.right, box.right) : box.right;
      line = new DOMRect(left, line ? line.top : box.top, right - left, line ? line.height : box.height);
    }
    if (line) add(text, line);
  };

  const walk = (node) => {
    if (found.length >= MOST) return;
    if (node.nodeType === Node.TEXT_NODE) {
      for (const word of node.data.matchAll(/\S+/g)) addWord(node, word.index, word.index + word[0].length);
      return;
    }
    if (node.nodeType === Node.ELEMENT_NODE) {
      if (skipped.has(node.tagName) || !visible(node)) return;
      if (/^(INPUT|TEXTAREA|SELECT)$/.test(node.tagName)) {
        const drawn = !/^(hidden|password|checkbox|radio|image|file|range|color)$/.test(node.type);
        const chosen = node.tagName === "SELECT" ? node.selectedOptions[0]?.text : node.value || node.placeholder;
        if (drawn && chosen) add(chosen, node.getBoundingClientRect());
        return;
      }
      if (node.shadowRoot) walk(node.shadowRoot);
    }
    for (const child of node.childNodes) walk(child);
  };

  if (document.body) walk(document.body);
  return { words: found, title: document.title, complete: found.length < MOST, scripts: document.scripts.length };
})()
