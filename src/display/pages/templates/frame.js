// In a frame of a page of the same origin: as high as the content, on the paper of the page around it.
(() => {
  let frame = null;
  try { frame = window.frameElement; } catch { /* the page around it is of another origin */ }
  if (!frame) return;
  const root = document.documentElement, around = frame.ownerDocument;
  const fit = () => { frame.style.height = `${Math.ceil(document.body.getBoundingClientRect().height) + 2}px`; };
  const paper = () => {
    for (let element = frame.parentElement; element; element = element.parentElement) {
      const [r, g, b, opacity = 1] = getComputedStyle(element).backgroundColor.match(/[\d.]+/g).map(Number);
      if (opacity > 0) { root.style.colorScheme = 0.3 * r + 0.6 * g + 0.1 * b < 128 ? "dark" : "light"; return; }
    }
  };
  new ResizeObserver(fit).observe(document.body);
  const observer = new MutationObserver(() => setTimeout(paper, 50));
  for (const element of [around.documentElement, around.body]) observer.observe(element, { attributes: true });
  paper();
  fit();
})();
