// Opens page pictures to look closer. Everything else on the page is Gradio's; nothing here makes HTML from text.
(() => {
  const STEP = 1.4; // one press of + or -
  const MARGIN = 16; // pixels left of a line that is read from its beginning
  let dialog, pane, image, title, width;

  function element(name, className, text) {
    const made = document.createElement(name);
    made.className = className;
    if (text) made.textContent = text;
    return made;
  }

  function button(text, label, does) {
    const made = element("button", "vr-viewer-button", text);
    made.type = "button";
    made.setAttribute("aria-label", label);
    made.addEventListener("click", does);
    return made;
  }

  function build() {
    dialog = element("dialog", "vr-viewer");
    title = element("h2", "vr-viewer-title");
    pane = element("div", "vr-viewer-pane");
    pane.tabIndex = 0; // arrow keys move the page
    image = element("img", "");
    image.draggable = false;
    pane.append(image);
    const bar = element("div", "vr-viewer-bar");
    const close = button("Close", "Close this page", () => dialog.close());
    close.autofocus = true;
    bar.append(title, button("−", "Smaller", () => zoom(1 / STEP)), button("+", "Larger", () => zoom(STEP)), close);
    dialog.append(bar, pane);
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close(); // beside the picture
    });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "+" || event.key === "=") zoom(STEP);
      if (event.key === "-") zoom(1 / STEP);
    });
    drag(pane);
    document.body.append(dialog);
  }

  // With a mouse; fingers scroll by themselves.
  function drag(area) {
    let last = null;
    area.addEventListener("pointerdown", (event) => {
      if (event.pointerType !== "mouse" || event.button !== 0) return;
      last = event;
      area.setPointerCapture(event.pointerId);
    });
    area.addEventListener("pointermove", (event) => {
      if (!last) return;
      area.scrollBy(last.clientX - event.clientX, last.clientY - event.clientY);
      last = event;
    });
    for (const ended of ["pointerup", "pointercancel"]) area.addEventListener(ended, () => (last = null));
  }

  // left and right: what is in sight, y: what stays in the middle; all as fractions of the picture.
  function show(left, right, y) {
    image.style.width = `${Math.round(width)}px`;
    const wide = (right - left) * image.clientWidth > pane.clientWidth - 2 * MARGIN;
    // A line that is wider than the screen is read from its beginning.
    const x = wide ? left * image.clientWidth - MARGIN : ((left + right) / 2) * image.clientWidth - pane.clientWidth / 2;
    pane.scrollTo(x, y * image.clientHeight - pane.clientHeight / 2);
  }

  function zoom(factor) {
    const x = (pane.scrollLeft + pane.clientWidth / 2) / image.clientWidth;
    const y = (pane.scrollTop + pane.clientHeight / 2) / image.clientHeight;
    width = Math.min(Math.max(width * factor, 120), 6000);
    show(x, x, y);
  }

  function open(opener) {
    if (!dialog) build();
    const place = opener.dataset.vrPage;
    const shown = place ? document.querySelector(`#pages img[data-vr-place="${Number(place)}"]`) : opener.querySelector("img");
    title.textContent = opener.dataset.vrOpen + (shown ? "" : ": this page has no picture");
    image.hidden = !shown;
    if (shown) {
      image.src = shown.src;
      image.alt = shown.alt;
    }
    dialog.showModal();
    // On a phone a page that fits cannot be read: it is wider than the screen, and is dragged.
    width = window.innerWidth <= 760 ? window.innerWidth * 2.2 : Math.min(1100, pane.clientWidth);
    const left = Number(opener.dataset.vrLeft ?? 0);
    const right = Number(opener.dataset.vrRight ?? left);
    const y = Number(opener.dataset.vrMiddle ?? 0);
    image.decode().catch(() => {}).then(() => show(left, right, y));
  }

  // Gradio's lists name their options by an id that is on the page only while they are open: to a screen reader a
  // list that is closed then controls nothing.
  function nameOptions() {
    for (const list of document.querySelectorAll('[role="combobox"]')) {
      const named = list.getAttribute("aria-controls") || list.dataset.vrControls;
      if (!named) continue;
      list.dataset.vrControls = named;
      const there = document.getElementById(named);
      if (there && !list.hasAttribute("aria-controls")) list.setAttribute("aria-controls", named);
      if (!there && list.hasAttribute("aria-controls")) list.removeAttribute("aria-controls");
    }
  }
  let waiting = false;
  new MutationObserver(() => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      nameOptions();
    });
  }).observe(document.documentElement, {childList: true, subtree: true});

  document.addEventListener("click", (event) => {
    const opener = event.target instanceof Element && event.target.closest("[data-vr-open]");
    if (opener) open(opener);
    const cite = event.target instanceof Element && event.target.closest("[data-vr-evidence]");
    // The focus goes along: Tab leads on from the evidence to its page, and a screen reader says it.
    if (cite) document.getElementById(`vr-e${Number(cite.dataset.vrEvidence)}`)?.focus();
  });
})();
