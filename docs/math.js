// Formulas: arithmatex leaves \( \) and \[ \] in elements of this class, KaTeX draws them. Where it cannot be fetched (no
// network), they stay what they are in the source.
if (window.katex) {
  document.querySelectorAll(".arithmatex").forEach((element) => {
    const source = element.textContent.trim();
    katex.render(source.slice(2, -2), element, { displayMode: source.startsWith("\\["), throwOnError: false });
  });
}
