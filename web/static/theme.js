// Bootstrap takes its dark colours from an attribute: set it before anything is painted.
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const set = () => { document.documentElement.dataset.bsTheme = dark.matches ? "dark" : "light"; };
  dark.addEventListener("change", set);
  set();
})();
